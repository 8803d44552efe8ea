"""What the SDRAM of the ULX3S gives, with LiteDRAM's own model of it."""

import json
import subprocess
from pathlib import Path

import pytest

from tailrace.hdl.boards.litedram import LiteDram
from tailrace.sim.toolchain import find_verilator


@pytest.mark.slow
def test_cycles_per_beat(simulated_controller: LiteDram, tmp_path: Path) -> None:
    """Eight accesses to columns are a beat of 128 bits; docs/boards/ulx3s.md has the numbers."""
    verilator = find_verilator()
    start = tmp_path / "start.txt"
    start.write_text("".join(f"{write.address} {write.value} {write.wait}\n" for write in simulated_controller.start))
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
    print("cycles per beat of 128 bits: " + json.dumps(found))
    assert found["wrong"] == 0
    assert 8 < found["read_64"] < 9.2, found
    assert 8 < found["read_1"] < 9.3, found
    assert 8 < found["write"] < 9.5, found
