"""What became of memories and products: from Yosys' log and netlist, by name."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .families import Family

_MAPPED = re.compile(r"^mapping memory (?P<name>\S+) via \\?(?P<cell>\S+)$")
_REGISTERS = re.compile(r"^using FF mapping for memory (?P<name>\S+)$")
_PRODUCT = re.compile(r"creating \$macc model for (?P<name>\S+) \(\$mul\)")


@dataclass(frozen=True)
class MappedMemory:
    """A memory and what it became.

    Attributes
    ----------
    name : str
    words, width : int
        Its shape; 0 where synthesis has found the memory itself.
    kind : str
        ``block RAM``, ``distributed RAM`` or ``flip-flops``.
    cells : int
        Cells that it takes; 0 for flip-flops.
    """

    name: str
    words: int
    width: int
    kind: str
    cells: int

    @property
    def reason(self) -> str:
        """Why it is not in block RAM; empty if it is."""
        if self.kind == "block RAM":
            return ""
        size = f"{self.words} words of {self.width} bits: " if self.words else ""
        if self.kind == "distributed RAM":
            return f"{size}Yosys takes distributed RAM where block RAM would stay nearly empty"
        return f"{size}read at more places than a RAM has ports, read without a clock, or too small for any RAM"


@dataclass(frozen=True)
class MappedProduct:
    """Products of one line of the source and what they became.

    Attributes
    ----------
    place : str
        File and line, or the name of the cell where that is lost.
    cell : str
        A cell that multiplies, or ``LUT``.
    cells : int
        Number of cells; for ``LUT`` of products.
    """

    place: str
    cell: str
    cells: int

    @property
    def reason(self) -> str:
        """Why it is not in a DSP block; empty if it is."""
        return "" if self.cell != "LUT" else "an operand or the product is narrower than Yosys gives a DSP block to"


def parse_memories(declared: Iterable[str], log: Iterable[str], cells: Mapping[str, Any], family: Family) -> list[MappedMemory]:
    """Say what each memory became.

    Parameters
    ----------
    declared : iterable of str
        Lines of Yosys' ``dump m:*``, before synthesis.
    log : iterable of str
        Lines of Yosys' log of the synthesis.
    cells : mapping
        Cells of the netlist, as Yosys writes them to JSON.
    family : Family
    """
    shapes = {}
    for line in declared:
        if line.startswith("  memory "):
            bits, size = re.search(r" width (\d+) ", line), re.search(r" size (\d+) ", line)
            name = line.rsplit(" \\", 1)[-1].strip()
            shapes[name] = (int(size[1]) if size else 1, int(bits[1]) if bits else 1)
    found = []
    types = {name: cell["type"] for name, cell in cells.items()}
    for line in log:
        match = _MAPPED.match(line) or _REGISTERS.match(line)
        if not match:
            continue
        # The name starts with that of the top module.
        name = match["name"].partition(".")[2]
        words, width = shapes.get(name, (0, 0))
        if match.re is _REGISTERS:
            found.append(MappedMemory(name, words, width, "flip-flops", 0))
            continue
        own = re.compile(re.escape(name) + r"(\.\d+)+\b")
        kinds = Counter(kind for cell, kind in types.items() if own.match(cell))
        block, small = (sum(kinds[kind] for kind in group) for group in (family.memories, family.cells[family.distributed]))
        found.append(MappedMemory(name, words, width, "block RAM" if block else "distributed RAM", block or small))
    return sorted(found, key=lambda memory: memory.name)


def parse_products(log: Iterable[str], cells: Mapping[str, Any], family: Family) -> list[MappedProduct]:
    """Say what products became: those in DSP blocks by their line in the source, those in LUTs by name.

    Parameters are those of `parse_memories`.
    """
    counted: Counter[tuple[str, str]] = Counter()
    for cell in cells.values():
        if cell["type"] in family.multipliers:
            counted[_source(cell.get("attributes", {}).get("src", "")), cell["type"]] += 1
    products: list[str] = []
    for line in log:
        if "Executing ALUMACC pass" in line:
            # What an earlier one has found may still have gone to a DSP block.
            products = []
        elif match := _PRODUCT.search(line):
            products.append(match["name"])
    for name in products:
        counted[_plain(name), "LUT"] += 1
    return [MappedProduct(place, cell, count) for (place, cell), count in sorted(counted.items())]


def _source(attribute: str) -> str:
    """The first place of a ``src`` attribute that is ours, without the folders above ``hdl``."""
    first = next((part for part in attribute.split("|") if ".py:" in part), "")
    return first[first.rfind("/hdl/") + 1 :] if "/hdl/" in first else first or "unknown"


def _plain(name: str) -> str:
    return name.removeprefix("$flatten").replace("\\", "")
