"""The exported core in tools that know nothing of Python: FuseSoC, Verilator, Yosys."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tailrace.export.export import export_core
from tailrace.export.naming import ExportedCore
from tailrace.sim.toolchain import find_compiler, find_verilator
from tailrace.spec.config import CONFIGS, parse_config
from tailrace.spec.registers import offset

CORE = ExportedCore(CONFIGS["tiny"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("amaranth", "pyosys", "systemrdl", "peakrdl_cheader", "peakrdl_ipxact", "fusesoc"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("export") / "core"
    export_core(CORE.config, folder)
    return folder


def run_fusesoc(folder: Path, target: str, name: str, *libraries: Path) -> tuple[int, str]:
    """Run a target as README.md says, of a core in `folder` or of one that depends on exports in `libraries`."""
    tools = (*libraries, folder)[0] / "tools"
    # Whatever Verilator the project found; the exported `tools` where it is only a Python package.
    find_compiler()
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    if not str(find_verilator().command).startswith(sys.prefix):
        path = os.pathsep.join([str(find_verilator().command.parent), path])
    roots = [argument for root in (".", *libraries) for argument in ("--cores-root", str(root))]
    command = [sys.executable, "-m", "fusesoc.main", *roots, "run", f"--target={target}", name]
    environment = {name: value for name, value in os.environ.items() if name != "VERILATOR_ROOT"}
    run = subprocess.run(
        command, cwd=folder, env={**environment, "PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return run.returncode, run.stdout


def run_target(folder: Path, target: str, core: ExportedCore = CORE) -> tuple[int, str, Path]:
    """Run a target of the core itself; returns also the folder that the tools worked in."""
    code, output = run_fusesoc(folder, target, f"tailrace:cores:{core.module}")
    return code, output, folder / "build" / f"tailrace_cores_{core.module}_{core.version}" / target


def run_testbench(core: ExportedCore, folder: Path, place: Path, work: Path, name: str, old: str, new: str) -> str:
    """Run a compiled testbench with one line of a file changed, and return what it says."""
    for file in (folder / "sim").glob("*.hex"):
        text = file.read_text()
        if file.name == name:
            assert re.search(old, text, re.MULTILINE)
            text = re.sub(old, new, text, count=1, flags=re.MULTILINE)
        (work / file.name).write_text(text)
    run = subprocess.run(
        [place / f"V{core.module}_tb", f"+files={work}"], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert (run.returncode == 0) == ("PASS" in run.stdout), run.stdout
    return run.stdout


def write_design(folder: Path, *cores: tuple[ExportedCore, Path]) -> None:
    """Write a core of somebody else's that has the exported ones in it, all of their ports led out."""
    ports, instances = [], []
    for core, export in cores:
        top = (
            (export / "rtl" / f"{core.module}.v")
            .read_text()
            .partition(f"\nmodule {core.module}(")[2]
            .partition("\nendmodule")[0]
        )
        own = re.findall(r"^  (input|output) (\[\d+:0\] )?(\w+);", top, re.MULTILINE)
        assert len(own) > 50
        ports += [f"    {way} wire {width}{core.module}_{name}" for way, width, name in own]
        connections = ", ".join(f".{name}({core.module}_{name})" for _, _, name in own)
        instances.append(f"    {core.module} {core.module}_0 ({connections});\n")
    header = ",\n".join(ports)
    (folder / "soc.v").write_text(f"module soc (\n{header}\n);\n{''.join(instances)}endmodule\n")
    depend = "".join(f"\n      - tailrace:cores:{core.module}" for core, _ in cores)
    (folder / "soc.core").write_text(
        f"""CAPI=2:
name: someone:else:soc:1.0
filesets:
  rtl:
    files: [soc.v]
    file_type: verilogSource
    depend:{depend}
targets:
  lint:
    filesets: [rtl]
    toplevel: soc
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [-Wall]
"""
    )


def test_lint_passes_and_has_something_to_say(folder: Path) -> None:
    code, output, _ = run_target(folder, "lint")
    assert code == 0, output
    assert "%Warning" not in output
    verilog = folder / "rtl" / f"{CORE.module}.v"
    text = verilog.read_text()
    try:
        verilog.write_text(text.replace(".clk(clk)", ".clock(clk)", 1))
        code, output, _ = run_target(folder, "lint")
    finally:
        verilog.write_text(text)
    assert code != 0
    assert "Pin not found: 'clock'" in output


def test_a_design_that_depends_on_the_core_is_clean(folder: Path, tmp_path: Path) -> None:
    write_design(tmp_path, (CORE, folder))
    code, output = run_fusesoc(tmp_path, "lint", "someone:else:soc", folder)
    assert code == 0, output
    assert "%Warning" not in output


@pytest.mark.slow
def test_two_cores_fit_into_one_design(folder: Path, tmp_path: Path) -> None:
    other = ExportedCore(parse_config("tiny,burst_beats=32"))
    export_core(other.config, tmp_path / "other")
    design = tmp_path / "design"
    design.mkdir()
    write_design(design, (CORE, folder), (other, tmp_path / "other"))
    code, output = run_fusesoc(design, "lint", "someone:else:soc", folder, tmp_path / "other")
    assert code == 0, output
    assert "%Warning" not in output
    # What is wrong in the design itself is still said.
    text = (design / "soc.v").read_text()
    (design / "soc.v").write_text(text.replace("module soc (", "module soc (\n    input wire nobody_reads_this,"))
    code, output = run_fusesoc(design, "lint", "someone:else:soc", folder, tmp_path / "other")
    assert code != 0
    assert re.findall(r"%Warning-(\w+)", output) == ["UNUSEDSIGNAL"]


@pytest.mark.slow
def test_the_testbench_passes_and_can_fail(folder: Path, tmp_path: Path) -> None:
    code, output, place = run_target(folder, "sim")
    assert code == 0, output
    assert re.search(r"PASS: 3 runs in \d+ cycles, \d+ words of 128 bits written, all \d+ words of memory as expected", output)

    simulate = partial(run_testbench, CORE, folder, place, tmp_path)
    assert "PASS" in simulate("memory.hex", "^// ", "// ")
    # A word that should not change, and one that should.
    assert re.search(r"FAIL: 1 of \d+ words of memory differ", simulate("expected.hex", "^@", f"@0 {'5' * 32}\n@"))
    assert re.search(r"FAIL: 1 of \d+ words of memory differ", simulate("expected.hex", r"^(@\w+ )0", r"\1e"))
    # Another build; a queue at a place where there is none; no doorbell.
    place_of = f"{offset('BUS_WIDTH'):03x}"
    output = simulate("identification.hex", f"^{place_of}_.*", f"{place_of}_00000100")
    assert f"FAIL: register {place_of} is 00000080, not 00000100" in output
    assert re.search(r"FAIL: command \d+ stopped with error 5", simulate("writes.hex", "^014_.*", "014_00000001"))
    assert "FAIL" in simulate("writes.hex", "^000_00000001", "000_00000000")


@pytest.mark.slow
def test_a_testbench_of_several_ports(tmp_path: Path) -> None:
    """A memory behind each port, which stall apart; every byte that is wrong in any of them is seen."""
    core, folder = ExportedCore(parse_config("tiny,channels=2")), tmp_path / "core"
    export_core(core.config, folder)
    where = "lies behind port A / 16 mod 2, at its address\nA / 32 * 16 + A mod 16"
    assert where in (folder / "README.md").read_text()
    code, output, _ = run_target(folder, "lint", core)
    assert (code, "%Warning" in output) == (0, False), output
    code, output, place = run_target(folder, "sim", core)
    assert code == 0, output
    assert re.search(r"PASS: 3 runs in \d+ cycles, \d+ words of 256 bits written, all \d+ words of memory as expected", output)
    simulate = partial(run_testbench, core, folder, place, tmp_path)
    # The first digit lies behind the second port, the last one behind the first.
    for old, new in ((r"^(@\w+ )[^f]", r"\1f"), (r"^(@\w+ \w+)[^f]$", r"\1f")):
        assert re.search(r"FAIL: 1 of \d+ words of memory differ", simulate("expected.hex", old, new))
    # What is behind the second port lies elsewhere, says its base.
    base = f"{offset('BASE_1_LO'):03x}_0000"
    assert "FAIL" in simulate("writes.hex", f"^{base}0000", f"{base}1000")


@pytest.mark.slow
def test_synthesis_maps_multipliers_and_memories(folder: Path) -> None:
    pytest.importorskip("tkinter")
    code, output, place = run_target(folder, "synth")
    assert code == 0, output
    log = (place / "yosys.log").read_text()
    # Nothing is driven twice, or read without being driven.
    assert "Found and reported 0 problems." in log
    cells = {
        name: int(count)
        for count, name in re.findall(r"^\s+(\d+)\s+(?:-\s+)?(MULT18X18D|DP16KD|LUT4|TRELLIS_FF)", log, re.MULTILINE)
    }
    assert cells["MULT18X18D"] > 30
    assert cells["DP16KD"] > 10
    assert next(place.glob("*.json")).stat().st_size > 1 << 20
