"""What a board's memory gives the co-processor, with LiteDRAM's own model of it."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module

from tailrace.hdl.boards import memory
from tailrace.hdl.boards.board import find_board
from tailrace.hdl.boards.levelling import Levelling
from tailrace.hdl.boards.litedram import LiteDram, generate
from tailrace.hdl.boards.memory import BoardMemory
from tailrace.sim.toolchain import find_verilator
from tailrace.sim.verilog import to_verilog

from .conftest import Controllers

#: For each board, how many cycles a beat of 128 bits must take: more than the pins need, and less than this.
LIMITS = {
    # Eight transfers of 16 bits, one in a cycle.
    "ulx3s": {"read_64": (8, 9.2), "read_1": (8, 9.2), "write": (8, 9.3), "read_row": (8, 9.15)},
    # A burst of eight transfers, four in a cycle.
    "ecpix5": {"read_64": (2, 2.11), "read_1": (2, 2.11), "write": (2, 2.18), "read_row": (2, 2.11)},
}


class NoLevelling(Levelling):
    """Says that reads are aligned, and aligns nothing."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.done.eq(self.enable)
        return m


def measure(controller: LiteDram, folder: Path) -> dict[str, float]:
    """Cycles per beat, and how many beats came back wrong."""
    verilator = find_verilator()
    design = folder / "memory.v"
    board = to_verilog(BoardMemory(controller, 32), name="memory", processes=True, black_boxes=controller.black_box)
    design.write_text(board + controller.verilog.read_text())
    subprocess.run(
        [
            *(str(verilator.command), "--cc", "--exe", "--build", "-j", "1", "-O3", "-Wno-fatal", "-Wno-lint", "--quiet"),
            *("--Mdir", str(folder / "made"), "--top-module", "memory", "-o", "memory_rate"),
            *(str(design), str(Path(__file__).with_name("memory_rate.cpp"))),
        ],
        check=True,
        env=verilator.environment,
        capture_output=True,
    )
    command = [str(folder / "made/memory_rate"), str(controller.row_bytes)]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"{len(controller.core_ports)} ports, cycles per beat of 128 bits: {json.dumps(found)}")
    return found


@pytest.mark.slow
def test_cycles_per_beat(simulated_controller: LiteDram, board_name: str, tmp_path: Path) -> None:
    """The pages in docs/boards have the numbers."""
    found = measure(simulated_controller, tmp_path)
    assert found["wrong"] == 0
    for what, (least, most) in LIMITS[board_name].items():
        assert least <= found[what] < most, found


@pytest.mark.slow
def test_a_port_alone_waits_for_new_rows(tmp_path: Path) -> None:
    """More than a hundredth of the time, which is why the ECPIX-5 has two."""
    board = find_board("ecpix5")
    dram = replace(board.dram, core_ports=("core",))
    found = measure(generate(tmp_path, "litedram_core", dram, board.clock_hz, 128, True), tmp_path)
    assert found["wrong"] == 0
    assert found["read_64"] > 1.01 * found["read_row"]
    for what in ("read_64", "read_1", "write"):
        assert found[what] > 1.01 * LIMITS["ecpix5"][what][1], found


@pytest.mark.slow
def test_reads_of_a_ddr3_are_wrong_before_they_are_aligned(
    controllers: Controllers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "Levelling", NoLevelling)
    assert measure(controllers("ecpix5", True), tmp_path)["wrong"] > 0
