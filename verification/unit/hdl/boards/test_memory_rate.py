"""What a board's memory gives, with LiteDRAM's own model of it."""

import json
import subprocess
from pathlib import Path

import pytest

from tailrace.hdl.boards.litedram import LiteDram
from tailrace.hdl.boards.litedram_model import WINDOWS
from tailrace.sim.toolchain import find_verilator

#: For each board, how many cycles a beat of 128 bits must take: more than the pins need, and less than this.
LIMITS = {
    # Eight transfers of 16 bits, one in a cycle.
    "ulx3s": {"read_64": (8, 9.2), "read_1": (8, 9.3), "write": (8, 9.5)},
    # A burst of eight transfers, four in a cycle.
    "ecpix5": {"read_64": (2, 2.2), "read_1": (2, 2.2), "write": (2, 2.3)},
}


def aligned(controller: LiteDram) -> list[tuple[int, int, int]]:
    """Writes that start a controller and align its reads: address, value, cycles to wait."""
    writes = [(write.address, write.value, write.wait) for write in controller.start]
    if phases := controller.read_phases:
        for lane, (slip, first, _) in enumerate(WINDOWS):
            writes.append((phases.select, 1 << lane, 0))
            writes += [(phases.next_delay, 1, 0)] * first + [(phases.next_slip, 1, 0)] * slip
        writes.append((phases.select, 0, 0))
    return writes


@pytest.mark.slow
@pytest.mark.parametrize("is_aligned", [True, False])
def test_cycles_per_beat(simulated_controller: LiteDram, board_name: str, is_aligned: bool, tmp_path: Path) -> None:
    """The pages in docs/boards have the numbers. A DDR3's reads are wrong before they are aligned."""
    if not is_aligned and not simulated_controller.read_phases:
        pytest.skip("this memory needs no levelling")
    verilator = find_verilator()
    start = tmp_path / "start.txt"
    writes = aligned(simulated_controller) if is_aligned else [(w.address, w.value, w.wait) for w in simulated_controller.start]
    start.write_text("".join("{} {} {}\n".format(*write) for write in writes))
    subprocess.run(
        [
            *(str(verilator.command), "--cc", "--exe", "--build", "-j", "1", "-O3", "-Wno-fatal", "-Wno-lint", "--quiet"),
            *("--Mdir", str(tmp_path / "made"), "--top-module", simulated_controller.name, "-o", "memory_rate"),
            *(str(simulated_controller.verilog), str(Path(__file__).with_name("memory_rate.cpp"))),
        ],
        check=True,
        env=verilator.environment,
        capture_output=True,
    )
    run = subprocess.run([str(tmp_path / "made/memory_rate"), str(start)], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    print(f"{board_name}: cycles per beat of 128 bits: {json.dumps(found)}")
    assert (found["wrong"] == 0) == is_aligned
    for what, (least, most) in LIMITS[board_name].items():
        assert least <= found[what] < most, found
