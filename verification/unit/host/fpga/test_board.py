"""The boards' bitstreams."""

from pathlib import Path
from typing import Any

import pytest

from tailrace.fpga import bitstream, board
from tailrace.fpga.board import build
from tailrace.hdl.boards import BOARDS, litedram
from tailrace.hdl.boards.board import find_board
from tailrace.hdl.boards.litedram import LiteDram
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import MissingPackage
from verification.unit.hdl.boards import test_ecpix5, test_ulx3s
from verification.unit.hdl.boards.without_core import leave_out_core

#: Sites of the board's pads, the names of clocks, and how many registers are at pads.
EXPECTED = {
    "ulx3s": (test_ulx3s.SITES, {"system_clock", "memory_clock"}, 39),
    "ecpix5": (test_ecpix5.SITES, {"system.system_clock"}, 44),
}


@pytest.mark.parametrize("name", BOARDS)
def test_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bitstream, "find_spec", lambda package: None if package == "amaranth_boards" else object())
    with pytest.raises(MissingPackage, match="^the Python package amaranth_boards is needed to build a board: "):
        build(name, tmp_path)


@pytest.mark.parametrize(("name", "spread", "own"), [("ulx3s", False, 1), ("ecpix5", True, 2)])
def test_a_board_knows_how_it_is_placed(
    name: str, spread: bool, own: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    controller = tmp_path / "dram.v"
    controller.write_text("")
    monkeypatch.setattr(
        litedram, "generate", lambda *_: LiteDram("dram", controller, {}, (), 1 << 25, 1024, 128, simulated=False)
    )
    placed: list[tuple[int, bool]] = []

    def make(*given: Any, spread: bool) -> None:
        placed.append((given[4], spread))

    monkeypatch.setattr(board, "make_bitstream", make)
    build(name, tmp_path)
    build(name, tmp_path, seed=0)
    assert placed == [(own, spread), (0, spread)]


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_bitstream_of_all_but_the_core(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole way; with the core it takes a quarter of an hour."""
    sites, clocks, registers = EXPECTED[name]
    leave_out_core(monkeypatch)
    steps: list[str] = []
    made = build(name, tmp_path, CONFIGS["tiny"], progress=steps.append)
    print(name, made.megahertz, made.cells)
    assert made.path == tmp_path / f"{name}.bit"
    # The preamble of Lattice's bitstreams.
    assert bytes.fromhex("ffffbdb3") in made.path.read_bytes()[:1024]
    assert clocks <= set(made.megahertz)
    for reached, wanted in made.megahertz.values():
        assert reached >= wanted
    for clock in clocks:
        assert made.megahertz[clock][1] == pytest.approx(find_board(name).clock_hz / 1e6, rel=1e-3)
    # Every pad of the memory has its register at the pad.
    assert made.cells["IOLOGIC"][0] == registers
    assert made.cells["EHXPLLL"][0] == 1
    assert made.cells["TRELLIS_IO"][0] == sum(len(places.split()) for places in sites.values())
    assert steps[:2] == ["making the memory controller", "elaborating"]
    assert steps[-1] == "packing the bitstream"
    assert {step.split()[0].rstrip(":,") for step in steps[2:-1]} == {"synthesis", "packing", "placement", "routing"}
