"""The LiteX example generates its design; `verification/system/test_litex.py` compiles and runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from litex.tools.litex_client import RemoteClient

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "litex_sim.py"


@pytest.mark.parametrize("with_core", [True, False])
def test_it_generates_a_design(tmp_path: Path, with_core: bool) -> None:
    verilog = tmp_path / "core.v"
    # In place of the core's, which nothing here reads.
    verilog.write_text("module tailrace_base; endmodule\n")
    options = ["--with-tailrace", "--tailrace-verilog", str(verilog)] if with_core else []
    command = [sys.executable, str(EXAMPLE), "--no-run", "--uart-tcp-port", "4321", "--output-dir", "build", *options]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    csr = RemoteClient(csr_csv=str(tmp_path / "build/csr.csv"))
    assert ("tailrace" in csr.mems.d) == ("tailrace_memory_base" in csr.constants.d) == with_core
    modules = json.loads((tmp_path / "build/gateware/sim_config.js").read_text())
    assert [m["args"] for m in modules if m.get("module") == "serial2tcp"] == [{"port": 4321}]
    assert ("tailrace_base tailrace_base(" in (tmp_path / "build/gateware/sim.v").read_text()) == with_core
