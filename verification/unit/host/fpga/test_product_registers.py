"""Registers behind products are in the DSP blocks of the ECP5 where these have the same ones."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("amaranth")
pytest.importorskip("pyosys")

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.fpga.families import FAMILIES
from tailrace.fpga.synthesis import read_cells, synthesise, write_design


class Product(wiring.Component):
    """A product of two registers, and what `behind` makes of it."""

    a: In(16)
    b: In(16)
    enable: In(2)
    o: Out(32)
    other: Out(32)

    def __init__(self, behind: Callable[[Module, "Product", Value], None]) -> None:
        self._behind = behind
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        a, b = Signal(16, reset_less=True), Signal(16, reset_less=True)
        m.d.sync += [a.eq(self.a), b.eq(self.b)]
        product = Signal(32)
        m.d.comb += product.eq(a * b)
        self._behind(m, self, product)
        return m


def register(m: Module, part: Product, bits: int = 32) -> Signal:
    """What goes out, in a register without a reset."""
    kept = Signal(bits, reset_less=True)
    m.d.comb += part.o.eq(kept)
    return kept


def always(m: Module, part: Product, product: Value) -> None:
    m.d.sync += register(m, part).eq(product)


def enabled(m: Module, part: Product, product: Value) -> None:
    kept = register(m, part)
    with m.If(part.enable[0]):
        m.d.sync += kept.eq(product)


def cut(m: Module, part: Product, product: Value) -> None:
    """Only some bits are read."""
    m.d.sync += register(m, part, 24).eq(product[5:29])


def reset(m: Module, part: Product, product: Value) -> None:
    m.d.sync += part.o.eq(product)


def halves(m: Module, part: Product, product: Value) -> None:
    kept = register(m, part)
    for n in range(2):
        with m.If(part.enable[n]):
            m.d.sync += kept[16 * n :][:16].eq(product[16 * n :][:16])


def read_twice(m: Module, part: Product, product: Value) -> None:
    m.d.sync += register(m, part).eq(product)
    m.d.comb += part.other.eq(product)


def unregistered(m: Module, part: Product, product: Value) -> None:
    m.d.comb += part.o.eq(product)


def one(behind: Callable[[Module, Product, Value], None], folder: Path) -> tuple[dict[str, Any], Counter[str]]:
    """The only product of a netlist, and the netlist's cells by type."""
    write_design(Product(behind), folder)
    synthesise(folder, FAMILIES["ecp5"])
    cells = read_cells(folder)
    [product] = [cell for cell in cells.values() if cell["type"] == "MULT18X18D"]
    return product, Counter(cell["type"] for cell in cells.values())


@pytest.mark.parametrize(("behind", "bits"), [(always, 32), (enabled, 32), (cut, 24)])
def test_registers_of_the_same_load_are_inside(
    behind: Callable[[Module, Product, Value], None], bits: int, tmp_path: Path
) -> None:
    product, cells = one(behind, tmp_path)
    assert product["parameters"]["REG_OUTPUT_CLK"] == "CLK0"
    assert cells["TRELLIS_FF"] == 32
    top = json.loads((tmp_path / "netlist.json").read_text(encoding="utf-8"))["modules"]["top"]
    outputs = [bit for bit in top["ports"]["o"]["bits"] if isinstance(bit, int)]
    assert sum(product["connections"].get(f"P{n}", [None])[0] in outputs for n in range(36)) == bits
    assert product["connections"]["CLK0"] == top["ports"]["clk"]["bits"]
    assert product["connections"]["CE0"] == ([top["ports"]["enable"]["bits"][0]] if behind is enabled else ["1"])
    assert product["connections"]["RST0"] == ["0"]


@pytest.mark.parametrize(("behind", "registers"), [(reset, 64), (halves, 64), (read_twice, 64), (unregistered, 32)])
def test_other_registers_stay_outside(behind: Callable[[Module, Product, Value], None], registers: int, tmp_path: Path) -> None:
    product, cells = one(behind, tmp_path)
    assert "REG_OUTPUT_CLK" not in product["parameters"]
    assert cells["TRELLIS_FF"] == registers
