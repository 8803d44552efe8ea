"""Compiles the core with Verilator, as cocotb does it, and runs a bench on it."""

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
PORTS = ("ap_*", "interrupt", "m0?_axi_*", "s_axi_control_*")
PORTS_ONLY = "".join(["`verilator_config\n", *(f'public_flat_rw -module "{TOP}" -var "{port}"\n' for port in PORTS)])


def run_bench(bench: str, config: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run all tests of a bench on a configuration, which it finds in ``TAILRACE_CONFIG``; the seed is in ``TAILRACE_SEED``.

    Parameters
    ----------
    bench : str
        Its module.
    config : str
    seed : int
    tmp_path : Path
        For what takes Verilator's place on the PATH.
    monkeypatch : pytest.MonkeyPatch

    Raises
    ------
    AssertionError
        If one fails, or there is none.
    """
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
        test_module=bench,
        hdl_toplevel=TOP,
        build_dir=folder,
        results_xml=str(tmp_path / "results.xml"),
    )
    tests, failed = get_results(results)
    assert tests > 0
    assert failed == 0
