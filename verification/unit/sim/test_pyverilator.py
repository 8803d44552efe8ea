"""A single block at a Python prompt."""

import sys
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.hdl.fifo import StreamFifo
from tailrace.sim import pyverilator
from tailrace.sim.pyverilator import open_block, split_tcl_list
from tailrace.spec.errors import MissingPackage


class Adder(wiring.Component):
    """Adds what it is given, a cycle later, in ports of every width that is held in another way."""

    small: In(5)
    wide: In(40)
    huge: In(100)
    total: Out(101)
    parity: Out(1)
    last_parity: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = Inner()
        m.d.comb += [inner.i.eq(self.small), self.parity.eq(self.small.xor()), self.last_parity.eq(inner.o)]
        m.d.sync += self.total.eq(self.small + self.wide + self.huge)
        return m


class Inner(wiring.Component):
    """Parity of the last value."""

    i: In(5)
    o: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        last = Signal(5)
        m.d.sync += last.eq(self.i)
        m.d.comb += self.o.eq(last.xor())
        return m


@pytest.fixture(scope="module")
def verilated_adder() -> None:
    open_block(Adder())


@pytest.fixture
def adder(verilated_adder: None) -> object:
    return open_block(Adder())


def test_ports_are_poked_and_peeked_by_name(adder) -> None:
    adder.io.small, adder.io.wide, adder.io.huge = 7, 1 << 39, 1 << 99
    assert adder.io.parity == 1
    assert adder.io.total == 0
    adder.clock.tick()
    assert adder.io.total == 7 + (1 << 39) + (1 << 99)
    adder.io.huge = (1 << 100) - 1
    adder.clock.tick()
    assert adder.io.total == 7 + (1 << 39) + (1 << 100) - 1


def test_values_are_cut_to_their_port(adder) -> None:
    adder.io.small, adder.io.wide, adder.io.huge = 0xFFFF_FFE3, -1, -1
    assert (adder.io.small, adder.io.wide, adder.io.huge) == (3, (1 << 40) - 1, (1 << 100) - 1)
    adder.clock.tick()
    assert adder.io.total == 3 + (1 << 40) - 1 + (1 << 100) - 1


def test_unknown_names_are_refused(adder) -> None:
    with pytest.raises(ValueError, match='^Item "smal" does not exist$'):
        adder.io.smal = 1
    with pytest.raises(AttributeError):
        _ = adder.io.smal


def test_signals_within_are_seen(adder) -> None:
    adder.io.small = 21
    adder.clock.tick()
    assert (adder.internals.inner.last, adder.io.last_parity) == (21, 1)


def test_reset_and_a_stream(tmp_path: Path) -> None:
    block = open_block(StreamFifo(8, depth=4))
    for value in range(4):
        assert block.io.i__ready
        block.io.i__payload, block.io.i__valid = value + 40, 1
        block.clock.tick()
    assert not block.io.i__ready
    assert (block.io.level, block.io.o__valid, block.io.o__payload) == (4, 1, 40)
    block.io.i__valid, block.io.o__ready = 0, 1
    block.clock.tick()
    assert (block.io.level, block.io.o__payload) == (3, 41)
    block.io.rst = 1
    block.clock.tick()
    assert block.io.level == 0


def test_waveforms_are_written(adder, tmp_path: Path) -> None:
    path = tmp_path / "block.vcd"
    adder.start_vcd_trace(str(path))
    adder.io.small = 3
    adder.clock.tick()
    adder.stop_vcd_trace()
    text = path.read_text()
    assert "small" in text
    assert "last" in text
    assert "#10" in text


def test_verilog_is_opened_too(tmp_path: Path) -> None:
    text = "module inverter(input [3:0] a, output [3:0] y); assign y = ~a; endmodule"
    (tmp_path / "inverter.v").write_text(text)
    for block in (open_block(text, name="inverter"), open_block(tmp_path / "inverter.v", name="inverter")):
        block.io.a = 5
        assert block.io.y == 10
        assert block.clock is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyverilator", None)
    pyverilator._simulator.cache_clear()
    try:
        with pytest.raises(MissingPackage, match="^the Python package pyverilator is needed to open a block: "):
            open_block("module block; endmodule")
    finally:
        pyverilator._simulator.cache_clear()


@pytest.mark.parametrize(
    ("text", "items"),
    [("", []), ("a", ["a"]), ("a  b ", ["a", "b"]), ("a {b c} {d {e f}} {} g", ["a", "b c", "d {e f}", "", "g"]), ("{}", [""])],
)
def test_tcl_lists_are_taken_apart(text: str, items: list[str]) -> None:
    assert split_tcl_list(text) == items
