"""What is made of the tools' reports."""

import json
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Elaboratable, Instance, Module

from tailrace.fpga.bitstream import _result, make_bitstream
from tailrace.spec.errors import ToolError


def report(folder: Path, reached: float) -> None:
    (folder / "board_timing.json").write_text(
        json.dumps(
            {
                "fmax": {"$glbnet$system_clock": {"achieved": reached, "constraint": 60.0}},
                "utilization": {"DP16KD": {"used": 3, "available": 208}, "DCUA": {"used": 0, "available": 2}},
            }
        )
    )


def test_clocks_and_cells(tmp_path: Path) -> None:
    report(tmp_path, 61.5)
    made = _result(tmp_path, "board")
    assert made.path == tmp_path / "board.bit"
    assert made.megahertz == {"system_clock": (61.5, 60.0)}
    assert made.cells == {"DP16KD": (3, 208)}


def test_a_clock_that_is_not_reached_is_an_error(tmp_path: Path) -> None:
    report(tmp_path, 59.96)
    with pytest.raises(ToolError) as error:
        _result(tmp_path, "board")
    assert str(error.value) == (
        "board is too slow: system_clock reaches 59.9 MHz after place and route and must run at 60.0 MHz;"
        " choose a slower clock, a smaller configuration or another seed"
    )


def test_what_synthesis_refuses_is_told(tmp_path: Path) -> None:
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    class Unknown(Elaboratable):
        def elaborate(self, platform: Any) -> Module:
            m = Module()
            m.submodules.nothing = Instance("no_such_cell", i_a=1)
            return m

    with pytest.raises(ToolError, match=r"^board could not be built: ERROR: Module `\\no_such_cell' referenced in") as error:
        make_bitstream(ULX3S_85F_Platform(), Unknown(), "board", tmp_path, 1, lambda _: None)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "board.bit").exists()
