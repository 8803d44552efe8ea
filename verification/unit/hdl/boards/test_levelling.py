"""The search for slips and delays at which reads are right."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from tailrace.hdl.boards.levelling import Levelling
from verification.unit.hdl.simulate import simulate

from .ddr3_model import PHASES, Ddr3Model

#: A lane's rows of delays that are right: slip, first, last.
Rows = tuple[tuple[int, int, int], ...]
Right = Callable[[int, int, int, int], bool]


def inside(*lanes: Rows) -> Right:
    """Right where one of the lane's rows says so."""
    return lambda lane, slip, delay, _: any(slip == row and first <= delay <= last for row, first, last in lanes[lane])


def level(right: Right, chance: Any = None) -> tuple[Ddr3Model, bool, int, list[tuple[int, int]]]:
    """Return the model, whether it is done, which lanes failed, and slip and delay of each lane."""
    dut = Levelling(PHASES, 40, 128, trial_bursts=1, last_bursts=2)
    model = Ddr3Model(dut, right, chance)
    result: list[Any] = []

    async def user(ctx: Any) -> None:
        for _ in range(5):
            await ctx.tick()
            assert not ctx.get(dut.request), "not enabled yet"
        ctx.set(dut.enable, 1)
        while not ctx.get(dut.done) and not ctx.get(dut.failed):
            await ctx.tick()
        for _ in range(50):
            await ctx.tick()
            assert not any(map(ctx.get, (dut.request, dut.read.ar.valid, dut.write.aw.valid)))
        result.extend((bool(ctx.get(dut.done)), ctx.get(dut.failed)))
        chosen = [(ctx.get(dut.slips[lane]), ctx.get(dut.delays[lane])) for lane in range(PHASES.lanes)]
        assert chosen == list(zip(model.slips, model.delays, strict=True)), "what it says is what it has set"
        result.append(chosen)

    simulate(dut, user, background=[model.registers, model.port])
    return model, *result  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("lanes", "chosen"),
    [
        # The middle of what is right, of two middles the lower one.
        ((((1, 2, 4),), ((2, 3, 6),)), [(1, 3), (2, 4)]),
        # All of them; one alone, at the ends.
        ((((3, 0, 7),), ((0, 0, 0),)), [(3, 3), (0, 0)]),
        ((((3, 7, 7),), ((2, 6, 7),)), [(3, 7), (2, 6)]),
        # The longest row, wherever it is; of equals the first; a row ends with its slip.
        ((((0, 0, 0), (1, 3, 6), (2, 1, 2)), ((0, 6, 7), (1, 0, 0), (3, 4, 5))), [(1, 4), (0, 6)]),
    ],
)
def test_the_middle_of_the_longest_row_is_chosen(lanes: tuple[Rows, Rows], chosen: list[tuple[int, int]]) -> None:
    model, done, failed, found = level(inside(*lanes))
    assert (done, failed, found) == (True, 0, chosen)
    # Each setting once, and the chosen ones.
    assert model.beats_read == (32 + 2) * 64


def test_ports_that_stall(seed: int) -> None:
    """The same, whenever the memory and its registers answer."""
    _, done, failed, chosen = level(inside(((1, 2, 4),), ((2, 3, 6),)), random.Random(seed))
    assert (done, failed, chosen) == (True, 0, [(1, 3), (2, 4)]), f"seed {seed}"


def test_a_setting_that_is_mostly_right_is_wrong() -> None:
    """One beat in forty at the edges: a look at a few reads would take them, and a longer row of them."""

    def right(lane: int, slip: int, delay: int, beat: int) -> bool:
        sure = slip == 2 and 3 <= delay <= 4
        shaky = slip == 2 or (slip == 1 and lane == 0)
        return sure or (shaky and beat % 40 != 0)

    _, done, failed, chosen = level(right)
    assert (done, failed, chosen) == (True, 0, [(2, 3), (2, 3)])


@pytest.mark.parametrize("lane", [0, 1])
def test_a_lane_that_is_never_right_fails(lane: int) -> None:
    rows: list[Rows] = [((1, 2, 4),), ((1, 2, 4),)]
    rows[lane] = ()
    _, done, failed, chosen = level(inside(*rows))
    assert (done, failed) == (False, 1 << lane)
    assert chosen[1 - lane] == (1, 3)


@pytest.mark.parametrize("lane", [0, 1])
def test_a_lane_that_fails_in_the_last_run_fails(lane: int) -> None:
    """Right in each short run, and then not: in its very last beat."""
    last = (32 + 2) * 64 - 1
    good = inside(((1, 2, 4),), ((1, 2, 4),))
    _, done, failed, _ = level(lambda of, slip, delay, beat: good(of, slip, delay, beat) and not (of == lane and beat == last))
    assert (done, failed) == (False, 1 << lane)
