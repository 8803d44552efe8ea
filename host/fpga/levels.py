"""How many cells lie between two registers of a netlist."""

from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

#: Cells with a clock, by how their names start. LUT RAM is left out: it is read without a clock.
_CLOCKED = ("TRELLIS_FF", "DP16KD", "FD", "RAMB", "URAM", "SRL")
#: Registers within a cell that multiplies.
_STAGES = ("AREG", "BREG", "MREG", "PREG")
_CARRY = ("CCU2C", "CARRY4", "CARRY8")
_LUT_RAM = ("TRELLIS_DPR", "RAM32", "RAM64", "RAM128", "RAM256")
#: Ports at which LUT RAM is read.
_READ = ("RAD", "ADDR", "DPRA")


def logic_levels(cells: Mapping[str, Any]) -> int:
    """Find the longest chain of cells between registers.

    A LUT, a carry chain, a multiplexer, a multiplier without registers and a read of LUT RAM are a level each.

    Parameters
    ----------
    cells : mapping
        Cells of a netlist, as Yosys writes them to JSON.

    Raises
    ------
    graphlib.CycleError
        If cells lie in a circle.
    """
    drivers = {bit: name for name, cell in cells.items() if not _is_clocked(cell) for bit in _bits(cell, "output")}
    before = {name: {drivers[bit] for bit in _bits(cell, "input") if bit in drivers} for name, cell in cells.items()}
    levels: dict[str, int] = {}
    for name in TopologicalSorter(before).static_order():
        own, kind = not _is_clocked(cells[name]), cells[name]["type"]
        chained = kind if kind in _CARRY else None
        levels[name] = max((levels[other] + (own and cells[other]["type"] != chained) for other in before[name]), default=own)
    return max(levels.values(), default=0)


def _is_clocked(cell: Mapping[str, Any]) -> bool:
    kind = cell["type"]
    if kind.startswith("DSP48"):
        return any(int(str(cell["parameters"].get(stage, "0")), 2) for stage in _STAGES)
    if kind == "MULT18X18D":
        return "REG_OUTPUT_CLK" in cell["parameters"]
    return kind.startswith(_CLOCKED)


def _bits(cell: Mapping[str, Any], direction: str) -> list[int]:
    """Nets at a cell's ports; of LUT RAM's inputs, those that a read depends on."""
    reads = cell["type"].startswith(_LUT_RAM) and direction == "input"
    return [
        bit
        for port, bits in cell["connections"].items()
        if cell["port_directions"].get(port) == direction and (not reads or port.startswith(_READ))
        for bit in bits
        if isinstance(bit, int)
    ]
