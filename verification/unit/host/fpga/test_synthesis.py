"""Synthesis of a small design, with Yosys itself."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("amaranth")
pytest.importorskip("pyosys")

from amaranth.hdl import Array, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.fpga.families import FAMILIES
from tailrace.fpga.mapping import MappedMemory
from tailrace.fpga.synthesis import Synthesis, read_cells, read_design, synthesise, write_design
from tailrace.spec.errors import ToolError


class Sample(wiring.Component):
    """A deep memory, a small one, a wide product, a narrow one, and a signal with the name of a bit."""

    def __init__(self, columns: int = 16) -> None:
        self.columns = columns
        super().__init__({"address": In(9), "a": In(16), "b": In(16), "write": In(1), "o": Out(64)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.deep = deep = Memory(shape=32, depth=512, init=[])
        m.submodules.small = small = Memory(shape=8, depth=16, init=[])
        held = Array(Signal(self.columns, name=f"held[{i}]") for i in range(2))
        for memory, domain in ((deep, "sync"), (small, "comb")):
            write, read = memory.write_port(), memory.read_port(domain=domain)
            m.d.comb += [write.addr.eq(self.address), write.data.eq(self.a), write.en.eq(self.write), read.addr.eq(self.b)]
            m.d.sync += held[domain == "comb"].eq(held[domain == "comb"] ^ read.data)
        wide, narrow = Signal(32), Signal(4)
        m.d.sync += [wide.eq(self.a * self.b), narrow.eq(self.a[:2] * self.b[:2])]
        m.d.comb += self.o.eq(wide ^ narrow ^ held[0] ^ (held[1] << 16))
        return m


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Synthesis, list[str]]:
    folder, said = tmp_path_factory.mktemp("sample"), list[str]()
    write_design(Sample(), folder)
    return folder, synthesise(folder, FAMILIES["ecp5"], said.append), said


def test_memories_and_products_find_their_cells(built: tuple[Path, Synthesis, list[str]]) -> None:
    folder, synthesis, said = built
    assert (synthesis.cells["block RAM"], synthesis.cells["multipliers"], synthesis.cells["distributed RAM"]) == (1, 2, 2)
    assert synthesis.memories == [
        MappedMemory("deep", 512, 32, "block RAM", 1),
        MappedMemory("small", 16, 8, "distributed RAM", 2),
    ]
    assert [(product.cell, product.cells) for product in synthesis.products] == [("MULT18X18D", 2)]
    # The product, and behind it LUTs for an exclusive or of four: how many is up to Yosys.
    assert 2 <= synthesis.levels <= 6
    assert synthesis.logic_delay is None
    assert any(text.startswith("synthesis: abc9, step ") for text in said)
    assert (folder / "synthesis.log").stat().st_size


def test_logic_is_mapped_twice(built: tuple[Path, Synthesis, list[str]]) -> None:
    log = (built[0] / "synthesis.log").read_text(encoding="utf-8")
    assert log.count("ABC: + &if -W 900") == 2


class Registered(wiring.Component):
    """A product between registers, and a sum behind it: all of it fits one DSP block."""

    a: In(signed(16))
    b: In(signed(16))
    c: In(signed(32))
    o: Out(signed(33))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        a, b, product = Signal.like(self.a), Signal.like(self.b), Signal(signed(32))
        m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b), self.o.eq(product + self.c)]
        return m


@pytest.mark.parametrize("family", ["xc7", "xcup"])
def test_registers_and_the_sum_of_a_product_are_in_its_dsp_block(family: str, tmp_path: Path) -> None:
    write_design(Registered(), tmp_path)
    cells = synthesise(tmp_path, FAMILIES[family]).cells
    assert cells[FAMILIES[family].multipliers[0]] == 1
    assert {what: count for what, count in cells.items() if what.startswith(("LUT", "flip", "CARRY")) and count} == {}


def test_signals_keep_their_names(built: tuple[Path, Synthesis, list[str]]) -> None:
    names = read_cells(built[0])
    for element in ("held.0", "held.1"):
        assert any(name.startswith(f"{element}_TRELLIS_FF_Q") for name in names), element


def test_a_design_is_known_by_what_it_is(built: tuple[Path, Synthesis, list[str]], tmp_path: Path) -> None:
    text = read_design(built[0])
    assert "test_synthesis.py" not in text
    assert "held.0" in text
    write_design(Sample(), tmp_path)
    assert read_design(tmp_path) == text
    write_design(Sample(columns=15), tmp_path)
    assert read_design(tmp_path) != text


def test_other_families_have_other_cells_and_delays(tmp_path: Path) -> None:
    write_design(Sample(), tmp_path)
    synthesis = synthesise(tmp_path, FAMILIES["xc7"])
    assert synthesis.cells["DSP48E1"] == 1
    # The narrow one is not worth a DSP block there.
    assert sorted((product.cell, product.cells) for product in synthesis.products) == [("DSP48E1", 1), ("LUT", 1)]
    assert synthesis.cells["RAMB36"] + synthesis.cells["RAMB18"] == 1
    assert synthesis.logic_delay is not None
    assert 0.5 < synthesis.logic_delay < 8


class Sums(wiring.Component):
    """A sum of four numbers."""

    def __init__(self) -> None:
        super().__init__({"numbers": In(data.ArrayLayout(signed(24), 4)), "o": Out(signed(26))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.sync += self.o.eq(sum(self.numbers))
        return m


def test_sums_of_several_numbers_are_carry_chains_only(tmp_path: Path) -> None:
    write_design(Sums(), tmp_path)
    cells = synthesise(tmp_path, FAMILIES["ecp5"]).cells
    # Two bits in each carry pair: 25 of both sums of two, and 26 of their sum.
    assert (cells["LUT4"], cells["carry pairs"]) == (0, 39)


def test_what_yosys_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "design.il").write_text("module \\other\nend\n")
    with pytest.raises(ToolError, match="Yosys could not work on 'top': .*top.* not found"):
        synthesise(tmp_path, FAMILIES["ecp5"])
