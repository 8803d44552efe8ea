"""Synthesis of a component with Yosys."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailrace.sim.verilog import require_tools, run_yosys

from .families import Family, write_rules
from .levels import logic_levels
from .mapping import MappedMemory, MappedProduct, parse_memories, parse_products
from .product_registers import pack_product_registers
from .progress import Activity

#: Name of the top module in every netlist.
TOP = "top"
#: Files in the folder of a synthesis.
DESIGN, NETLIST, LOG = "design.il", "netlist.json", "synthesis.log"

_PASS = re.compile(r"^\d+\.(\d+)\. Executing (\w+) pass")
#: Passes of a synthesis, more or less; what the numbers in its log count up to.
_PASSES = 55
#: The name of an element of an array, in RTLIL; bits of a signal have a space in front of their bracket.
_ELEMENT = re.compile(r"\\[^\s\[\]]*(?:\[\d+\][^\s\[\]]*)+")
_PLACE = re.compile(r'^ *attribute \\src ".*"\n', re.MULTILINE)
_ARRIVAL = re.compile(r"^Latest arrival time in '.*' is (\d+):")


@dataclass(frozen=True)
class Synthesis:
    """What a component takes.

    Attributes
    ----------
    cells : dict of str to int
        By the names of the family.
    memories : list of MappedMemory
    products : list of MappedProduct
    levels : int
        Levels of logic between two registers, at most.
    logic_delay : float, optional
        Longest delay of cells between two registers in nanoseconds, without any routing; None where Yosys does not know the
        delays.
    """

    cells: dict[str, int]
    memories: list[MappedMemory]
    products: list[MappedProduct]
    levels: int
    logic_delay: float | None


def write_design(component: Any, folder: Path) -> None:
    """Elaborate a component into ``design.il`` of a folder.

    Elements of arrays are signals called ``x[0]``, the name that synthesis gives to bit 0 of ``x``: here they are called
    ``x.0``, so that both keep their names and reports can be read.

    Raises
    ------
    ToolError
        If Amaranth or pyosys is not installed.
    """
    require_tools()
    from amaranth.back import rtlil

    folder.mkdir(parents=True, exist_ok=True)
    text = _ELEMENT.sub(lambda match: match[0].replace("[", ".").replace("]", ""), rtlil.convert(component, name=TOP))
    (folder / DESIGN).write_text(text, encoding="utf-8")


def read_design(folder: Path) -> str:
    """The design of a folder without the places in the source: a line that has moved makes no other design."""
    return _PLACE.sub("", (folder / DESIGN).read_text(encoding="utf-8"))


def synthesis_phase(line: str) -> str | None:
    """What a line of Yosys's log says about where a synthesis is; None if nothing."""
    match = _PASS.match(line)
    return f"synthesis: {match[2].lower()}, step {match[1]} of {_PASSES}" if match else None


def synthesise(folder: Path, family: Family, progress: Activity | None = None) -> Synthesis:
    """Synthesise the ``design.il`` of a folder; netlist and log stay there.

    Parameters
    ----------
    folder : Path
    family : Family
    progress : callable, optional

    Raises
    ------
    ToolError
        If Yosys is missing or fails.
    """

    def listen(line: str) -> None:
        phase = synthesis_phase(line)
        if phase and progress:
            progress(phase)

    write_rules(folder)
    commands = [command.format(top=TOP, json=NETLIST) for command in family.synthesis]
    run_yosys(
        folder,
        TOP,
        f"read_rtlil {DESIGN}",
        f"hierarchy -top {TOP}",
        "flatten",
        "tee -q -o memories.txt dump m:*",
        # Yosys finds out that a memory is never read where it is written (and builds nothing for that case) only where it
        # joins a memory with the register behind it, as when it reads Verilog.
        "memory_nordff",
        *family.before,
        *(f"tee -{'a' if n else 'o'} {LOG} {command}" for n, command in enumerate(commands)),
        *(["delete t:$scopeinfo", family.timing, "tee -q -o delays.txt sta"] if family.timing else []),
        listen=listen,
    )
    if family.registers_in_products:
        pack_product_registers(folder / NETLIST)
    cells = read_cells(folder)
    counted = Counter(cell["type"] for cell in cells.values())
    log = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    delay = None
    if family.timing:
        arrivals = [_ARRIVAL.match(line) for line in (folder / "delays.txt").read_text(encoding="utf-8").splitlines()]
        delay = next((int(arrival[1]) / 1000 for arrival in arrivals if arrival), None)
    return Synthesis(
        family.count(counted),
        parse_memories((folder / "memories.txt").read_text(encoding="utf-8").splitlines(), log, cells, family),
        parse_products(log, cells, family),
        logic_levels(cells),
        delay,
    )


def read_cells(folder: Path) -> dict[str, Any]:
    """Cells of the netlist of a folder, as Yosys writes them to JSON, without those that only note the hierarchy."""
    modules = json.loads((folder / NETLIST).read_text(encoding="utf-8"))["modules"]
    return {name: cell for name, cell in modules[TOP]["cells"].items() if cell["type"] != "$scopeinfo"}
