"""Puts the registers behind products into the DSP blocks of the ECP5, which Yosys leaves outside."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PRODUCT, _REGISTER = "MULT18X18D", "TRELLIS_FF"
_OUTPUTS = tuple(f"P{bit}" for bit in range(36))
#: A register that a DSP block has as well: a rising edge, zero at the start, and no reset.
_PLAIN = {"CLKMUX": "CLK", "REGSET": "RESET"}
#: Whether a register has a clock enable, by the parameter that says so.
_ENABLED = {"CE": True, "1": False}


def pack_product_registers(netlist: Path) -> int:
    """Move the registers behind products into their DSP blocks, in a netlist that Yosys wrote as JSON.

    A product and its registers lie apart otherwise, with a long wire before the multiplier, which takes 3 ns, and one behind
    it. A product keeps its registers outside if anything else reads it, or if they are not all loaded by the same signal.
    Those at its inputs stay where they are.

    Parameters
    ----------
    netlist : Path
        Is written anew.

    Returns
    -------
    int
        Products that have their registers inside now.
    """
    design = json.loads(netlist.read_text(encoding="utf-8"))
    # The others are what Yosys knows of the cells.
    top = next(module for module in design["modules"].values() if "top" in module["attributes"])
    cells: dict[str, Any] = top.get("cells", {})
    # For each net, the registers that take it, and an empty name for anything else that reads it.
    readers: dict[int | str, list[str]] = defaultdict(list)
    for outside in top.get("ports", {}).values():
        if outside["direction"] != "input":
            for bit in outside["bits"]:
                readers[bit].append("")
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    readers[bit].append(name if cell["type"] == _REGISTER and port == "DI" else "")
    packed = 0
    for product in [cell for cell in cells.values() if cell["type"] == _PRODUCT]:
        registers = dict(_registers(product, readers))
        loads = {_load(cells[name]) if name else None for name in registers.values()}
        load = loads.pop() if len(loads) == 1 else None
        if load is None:
            continue
        clock, enable = load
        for output, name in registers.items():
            product["connections"][output] = cells.pop(name)["connections"]["Q"]
        product["parameters"] |= {"REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": "CE0", "REG_OUTPUT_RST": "RST0", "GSR": "DISABLED"}
        for port, bit in (("CLK0", clock), ("CE0", enable), ("RST0", "0")):
            product["connections"][port] = [bit]
            product["port_directions"][port] = "input"
        packed += 1
    netlist.write_text(json.dumps(design), encoding="utf-8")
    return packed


def _registers(product: Mapping[str, Any], readers: Mapping[int | str, list[str]]) -> Iterator[tuple[str, str]]:
    """Yield each output that is read, with the register that alone reads it, or an empty name."""
    for port in _OUTPUTS:
        for bit in product["connections"].get(port, ()):
            if bit in readers:
                yield port, readers[bit][0] if len(readers[bit]) == 1 else ""


def _load(register: Mapping[str, Any]) -> tuple[int, int | str] | None:
    """Clock and clock enable of a register, or None if a DSP block has no such register."""
    parameters, connections = register["parameters"], register["connections"]
    enabled = _ENABLED.get(parameters.get("CEMUX", "CE").strip())
    plain = all(parameters.get(name, value) == value for name, value in _PLAIN.items())
    if enabled is None or not plain or connections.get("LSR", ["0"]) != ["0"]:
        return None
    return connections["CLK"][0], connections["CE"][0] if enabled else "1"
