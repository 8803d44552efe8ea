"""Other builds of a board."""

from dataclasses import replace

from tailrace.plan.speed import Cores
from tailrace.plan.what_if import changed, other_builds, what_if
from verification.unit.host.plan.boards import BOARD, WIDE, shakespeare


def test_a_build_with_other_values() -> None:
    assert changed("base", right_hand_sides=1) == "base"
    assert changed("base", right_hand_sides=4) == "base,right_hand_sides=4"
    assert changed("base,right_hand_sides=4,buffer_entries=32768", right_hand_sides=2) == (
        "base,buffer_entries=32768,right_hand_sides=2"
    )


def test_which_builds_are_looked_at() -> None:
    sides = [f"wide,right_hand_sides={n}" for n in (1, 2)]
    assert [b.build for b in other_builds(WIDE)] == [
        *sides,
        "wide",
        "wide,right_hand_sides=8",
        "wide,bus_width=128",
        "wide,bus_width=128,channels=2",
    ]
    assert [(b.ports, b.port_bits) for b in other_builds(WIDE)][-2:] == [(1, 128), (2, 128)]
    assert [b.build for b in other_builds(BOARD)][:2] == ["base", "base,right_hand_sides=2"]


def test_what_other_builds_bring() -> None:
    cores = Cores(shakespeare())
    found = {v.board.build: v for v in what_if(cores, WIDE, 32, 3.0)}
    own = cores.of(WIDE)
    assert [v.note for v in found.values()] == ["", "", "as it is", "", "", ""]
    as_it_is = found["wide"]
    assert as_it_is.alone == WIDE.rate(own.step())
    assert as_it_is.drafts == 3.0 * WIDE.rate(own.drafts(4))
    assert (as_it_is.users, as_it_is.total) == (4, 4 * WIDE.rate(cores.of(WIDE, 4).step()))
    assert as_it_is.first == 1 / WIDE.rate(own.prompt(32))
    # Eight rows are not filled for three tokens.
    assert found["wide,right_hand_sides=8"].drafts > found["wide,right_hand_sides=8"].alone * 1.5
    # Two rows can't verify what gives three tokens.
    assert found["wide,right_hand_sides=2"].drafts == 0.0
    assert found["wide,bus_width=128"].alone < found["wide,bus_width=128,channels=2"].alone < as_it_is.alone


def test_memory_bounds_the_users() -> None:
    cores = Cores(shakespeare())
    board = replace(WIDE, memory_size=str(cores.of(WIDE, 2).bytes))
    found = next(v for v in what_if(cores, board, 8) if v.board.build == "wide")
    assert (found.users, found.note) == (2, "as it is")
    found = what_if(cores, replace(board, memory_size="1KiB"), 8)
    assert [v.note for v in found] == ["memory too small"] * 2 + ["as it is, memory too small"] + ["memory too small"] * 3
