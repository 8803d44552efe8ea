"""The critical path that nextpnr reports, as people read it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_KINDS = "TRELLIS_FF|TRELLIS_DPR16X4|LUT4|CCU2C|PFUMX|L6MUX21|MULT18X18D|DP16KD"
#: Yosys names a cell after a signal beside it and adds the cell's kind, its port, and so on.
_BESIDE = re.compile(rf"_(?:{_KINDS})(?=[_$.]|$).*")
_KIND = re.compile(_KINDS)


@dataclass(frozen=True)
class Hop:
    """A step of a path.

    Attributes
    ----------
    kind : str
        ``clk-to-q``, ``logic``, ``routing`` or ``setup``, as nextpnr calls them.
    delay : float
        Nanoseconds.
    start, end : str
        Signals near the cells, with the ports.
    """

    kind: str
    delay: float
    start: str
    end: str


@dataclass(frozen=True)
class CriticalPath:
    """The slowest path from register to register.

    Attributes
    ----------
    start, end : str
        Signals near the two registers.
    logic, routing : float
        Nanoseconds in cells (clock to output and setup are theirs), and between them.
    hops : tuple of Hop
    """

    start: str
    end: str
    logic: float
    routing: float
    hops: tuple[Hop, ...]

    def listing(self) -> str:
        """All hops, a line each: time since the clock's edge, delay, kind, places."""
        lines, passed = [f"{self.start} -> {self.end}: {self.logic:.2f} ns logic, {self.routing:.2f} ns routing"], 0.0
        for hop in self.hops:
            passed += hop.delay
            where = hop.end if hop.kind in ("clk-to-q", "setup") else f"{hop.start} -> {hop.end}"
            lines.append(f"{passed:7.2f} {hop.delay:6.2f} {hop.kind:8}  {where}")
        return "\n".join(lines)


def signal(cell: str) -> str:
    """The signal that a cell of a netlist is named after."""
    return _BESIDE.sub("", cell).removesuffix("$")


def parse_path(report: Mapping[str, Any], clock: str) -> CriticalPath:
    """Read the critical path of a clock from nextpnr's report.

    Parameters
    ----------
    report : mapping
        What nextpnr has written with ``--report``.
    clock : str
        As it is called under ``fmax``.

    Raises
    ------
    ValueError
        If there is no path from register to register.
    """
    edges = {f"{edge} {clock}" for edge in ("posedge", "negedge")}
    paths = [path for path in report["critical_paths"] if path["from"] in edges and path["to"] in edges]
    if not paths:
        raise ValueError(f"nextpnr reports no path from register to register of clock {clock!r}")
    steps = paths[0]["path"]
    hops = tuple(Hop(step["type"], float(step["delay"]), _place(step["from"]), _place(step["to"])) for step in steps)
    routing = sum(hop.delay for hop in hops if hop.kind == "routing")
    return CriticalPath(
        signal(steps[0]["from"]["cell"]),
        signal(steps[-1]["to"]["cell"]),
        sum(hop.delay for hop in hops) - routing,
        routing,
        hops,
    )


def _place(end: Mapping[str, Any]) -> str:
    kinds = _KIND.findall(end["cell"])
    return f"{signal(end['cell'])} [{kinds[-1] if kinds else 'cell'}.{end['port']}]"
