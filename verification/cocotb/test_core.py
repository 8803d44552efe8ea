"""Runs the bench of the core under Verilator."""

import os
import shlex
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from tailrace.sim.build import TOP, core_verilog
from tailrace.sim.toolchain import find_verilator
from tailrace.spec.config import parse_config
from verification.cocotb import octal_paths

BUILD = Path(__file__).resolve().parents[2] / "build" / "cocotb"
#: cocotb needs to see the ports and nothing else: handles to every signal would make the simulation larger and slower.
PORTS = ("ap_*", "interrupt", "m00_axi_*", "s_axi_control_*")
PORTS_ONLY = "".join(["`verilator_config\n", *(f'public_flat_rw -module "{TOP}" -var "{port}"\n' for port in PORTS)])
#: Small FIFOs, so that they fill up, and little memory on the chip.
CONFIGS = (
    "tiny,vector_blocks=64,buffer_entries=1024,read_fifo_beats=64,burst_beats=16",
    "base,bus_width=256,right_hand_sides=2,vector_blocks=64,buffer_entries=2048,read_fifo_beats=128,burst_beats=32",
    "wide,vector_blocks=64,buffer_entries=2048,read_fifo_beats=64,burst_beats=16",
)


@pytest.mark.parametrize(
    "config", [CONFIGS[0], *(pytest.param(c, marks=pytest.mark.slow) for c in CONFIGS[1:])], ids=lambda c: c.split(",")[0]
)
def test_core(config: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verilog = core_verilog(parse_config(config))
    verilator = find_verilator()
    monkeypatch.setenv("VERILATOR_ROOT", str(verilator.root))
    # cocotb looks for a program of this name; the one that Verilator installs is a Perl script in front of the program itself.
    tools = tmp_path / "tools"
    tools.mkdir()
    program = tools / "verilator"
    command = shlex.join([sys.executable, octal_paths.__file__, str(verilator.command)])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    # It runs for a short time: better compiled soon than well.
    monkeypatch.setenv("MAKEFLAGS", "OPT_FAST=-O1")
    monkeypatch.setenv("TAILRACE_CONFIG", config)
    monkeypatch.setenv("TAILRACE_SEED", str(seed))
    folder = BUILD / sha256(verilog.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    source, visible = folder / f"{TOP}.v", folder / "ports.vlt"
    if not source.exists():
        source.write_text(verilog)
        visible.write_text(PORTS_ONLY)
    runner = get_runner("verilator")
    runner.build(
        sources=[visible, source],
        hdl_toplevel=TOP,
        build_dir=folder,
        build_args=["-Wno-fatal", "-Wno-lint", "--no-public-flat-rw", "--x-initial", "fast", "-O3"],
        always=False,
    )
    results = runner.test(
        test_module="verification.cocotb.bench_core",
        hdl_toplevel=TOP,
        build_dir=folder,
        results_xml=str(folder / "results.xml"),
    )
    tests, failed = get_results(results)
    assert tests > 0
    assert failed == 0


def test_paths_beyond_ascii() -> None:
    """As Verilator writes them into its makefiles; an escape that is none stays."""
    assert octal_paths.plain(rb"include /home/j\303\266rg/\101.mk \999") == "include /home/jörg/".encode() + rb"\101.mk \999"
