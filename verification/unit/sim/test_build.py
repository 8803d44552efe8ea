"""What is built, and when it is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.hdl import top
from tailrace.sim import build, verilog
from tailrace.sim.build import TOP, build_library, core_verilog
from tailrace.sim.verilog import to_verilog
from tailrace.spec.config import Config
from tailrace.spec.errors import MissingPackage, ToolError
from verification.unit.sim.prober import Prober


def test_verilog_is_made_once_for_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path))
    made: list[Config] = []

    def fake(top: Config, *, name: str, **_: bool) -> str:
        made.append(top)
        return f"module {name}"

    monkeypatch.setattr(top, "Top", lambda config, *_, **__: config)
    monkeypatch.setattr(verilog, "to_verilog", fake)
    first = core_verilog(Config("one", 128))
    assert core_verilog(Config("another name", 128)) == first == f"module {TOP}"
    assert len(made) == 1
    core_verilog(Config("one", 128, read_fifo_beats=1024))
    assert len(made) == 2
    monkeypatch.setattr(build, "module_parts", lambda *names: ["changed"])
    core_verilog(Config("one", 128))
    assert len(made) == 3


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path))
    for missing in ("amaranth", "pyosys"):
        monkeypatch.setattr(verilog, "find_spec", lambda name, missing=missing: None if name == missing else object())
        with pytest.raises(ToolError) as error:
            core_verilog(Config("one", 128))
        assert str(error.value) == str(MissingPackage(missing, "to make Verilog", "sim"))


def test_a_module_with_other_ports_is_refused() -> None:
    with pytest.raises(ToolError, match=r"failed: .*error: .*Vcore.*m00_axi_"):
        build_library(
            f"module {TOP}(input ap_clk, input ap_rst_n, output interrupt); assign interrupt = 0; endmodule", "a stranger"
        )


def test_a_warm_start_is_quick_and_needs_no_amaranth(tmp_path: Path) -> None:
    """In a process of its own: importing counts too."""
    library = build_library(to_verilog(Prober(128), name=TOP), "the memory prober (128 bits)")
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tailrace.sim.devices import open_device\n"
        "from tailrace.spec.config import CONFIGS\n"
        "open_device('verilator', CONFIGS['tiny'], 1 << 30, library=Path(sys.argv[1]))\n"
        "assert 'amaranth' not in sys.modules and 'pyosys' not in sys.modules\n"
        "print(time.process_time())\n"
    )
    again = build_library(to_verilog(Prober(128), name=TOP), "the memory prober (128 bits)")
    assert again == library
    run = subprocess.run([sys.executable, "-c", program, str(library)], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 2, f"{run.stdout} s of processor time"


def test_progress_is_told_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path))
    monkeypatch.setattr(top, "Top", lambda config, *_, **__: config)
    monkeypatch.setattr(verilog, "to_verilog", lambda top, **_: "module")
    core_verilog(Config("one", 128))
    core_verilog(Config("one", 128))
    out, errors = capsys.readouterr()
    assert out == ""
    first, second = errors.splitlines()
    assert first == "tailrace: elaborating the gateware of configuration one (once; then it is cached)"
    assert second.startswith("tailrace: elaborating the gateware of configuration one: ")
