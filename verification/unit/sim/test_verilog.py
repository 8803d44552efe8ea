"""Amaranth to Verilog."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.sim import verilog
from tailrace.sim.verilog import to_verilog
from tailrace.spec.errors import MissingPackage, ToolError


class Counter(wiring.Component):
    """Counts up while enabled."""

    enable: In(1)
    count: Out(8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.enable):
            m.d.sync += self.count.eq(self.count + 1)
        return m


class Pair(wiring.Component):
    """Two counters."""

    enable: In(1)
    total: Out(9)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.first, m.submodules.second = first, second = Counter(), Counter()
        m.d.comb += [first.enable.eq(self.enable), second.enable.eq(first.count[0]), self.total.eq(first.count + second.count)]
        return m


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize(("flatten", "modules"), [(True, 1), (False, 3)])
def test_one_module_or_all(flatten: bool, modules: int, processes: bool) -> None:
    text = to_verilog(Pair(), name="pair", flatten=flatten, processes=processes)
    assert text.count("\nendmodule") == modules
    assert "module pair(" in text
    assert "(*" not in text


def test_conditions_are_kept_on_request() -> None:
    assert "always @*" in to_verilog(Counter(), name="counter", processes=True)
    assert "always @*" not in to_verilog(Counter(), name="counter")


def test_ports_come_from_the_signature() -> None:
    text = to_verilog(Counter(), name="counter")
    for port in ("input clk;", "input rst;", "input enable;", "output [7:0] count;"):
        assert port in text


def test_ports_of_a_plain_module_are_named() -> None:
    m = Module()
    a = Signal(4)
    b = Signal(4)
    m.d.comb += b.eq(~a)
    assert "input [3:0] a;" in to_verilog(m, name="inverter", ports=[a, b])


def test_what_yosys_refuses_is_told() -> None:
    with pytest.raises(
        ToolError, match=r"^Yosys could not .*'two words'.*: Parser error in line \d+: Expected EOL, got `words'\.$"
    ):
        to_verilog(Counter(), name="two words")


@pytest.mark.parametrize("missing", ["amaranth", "pyosys"])
def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(verilog, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(ToolError) as error:
        to_verilog("no component", name="x")
    assert str(error.value) == str(MissingPackage(missing, "to make Verilog", "sim"))
