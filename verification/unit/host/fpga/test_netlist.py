"""A netlist of cells behaves as the design that it was made from."""

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyosys")

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.fpga import netlist
from tailrace.fpga.netlist import netlist_verilog
from tailrace.sim.build import TOP
from tailrace.sim.pyverilator import open_block
from tailrace.spec.errors import ToolError

CYCLES = 400
#: Words and bits of memories: block RAM of every width, and distributed RAM.
SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1), (16, 8))


class Sample(wiring.Component):
    """Memories of every shape, with contents; a table that is read twice; products of every sign; sums of several; a counter."""

    def __init__(self) -> None:
        outputs = {f"read_{depth}": Out(width) for depth, width in SHAPES}
        products = {"unsigned": Out(36), "mixed": Out(36), "signed": Out(36), "held": Out(36)}
        inputs = {"write_address": In(14), "read_address": In(14), "data": In(36), "bytes": In(4), "read": In(1)}
        sums = {"sum": Out(20), "signed_sum": Out(signed(22))}
        tables = {"first": Out(8), "second": Out(8)}
        super().__init__({**inputs, "a": In(17), "b": In(17), **outputs, **products, **sums, **tables, "count": Out(40)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        random = np.random.default_rng(1)
        for depth, width in SHAPES:
            init = [int(word) for word in random.integers(0, 1 << width, depth)]
            m.submodules[f"memory_{depth}"] = memory = Memory(shape=width, depth=depth, init=init)
            write = memory.write_port(granularity=9 if width in (18, 36) else None)
            read = memory.read_port()
            m.d.comb += [write.addr.eq(self.write_address), write.data.eq(self.data), write.en.eq(self.bytes)]
            m.d.comb += [read.addr.eq(self.read_address), read.en.eq(self.read), getattr(self, f"read_{depth}").eq(read.data)]
        low, high = Signal(signed(17)), Signal(signed(17))
        m.d.comb += [low.eq(self.a), high.eq(self.b)]
        m.d.sync += [self.unsigned.eq(self.a * self.b), self.mixed.eq(self.a * high), self.signed.eq(low * high)]
        # Without a reset: this one is in the DSP block.
        held = Signal(36, reset_less=True)
        m.d.comb += self.held.eq(held)
        with m.If(self.read):
            m.d.sync += held.eq(low * self.data[:9])
        m.d.sync += [
            self.count.eq(self.count + self.a),
            self.sum.eq(self.a + self.b + self.a[3:] + self.b[5:]),
            self.signed_sum.eq(low + high + self.a[:9] + low[2:11].as_signed() - self.b[:4]),
        ]
        m.submodules.table = table = Memory(shape=8, depth=1024, init=[int(word) for word in random.integers(0, 256, 1024)])
        for found, address in ((self.first, self.a), (self.second, self.b)):
            read = table.read_port()
            m.d.comb += [read.addr.eq(address), read.en.eq(self.read), found.eq(read.data)]
        return m


@pytest.mark.slow
def test_cells_do_what_the_design_says(rng: np.random.Generator, seed: int) -> None:
    text = netlist_verilog(Sample(), "a sample of memories and products")
    kinds = set(re.findall(r"^  (\w+) #\(", text, re.MULTILINE))
    assert {"DP16KD", "TRELLIS_FF", "TRELLIS_DPR16X4", "CCU2C"} <= kinds
    assert "MULT18X18D" in text
    widths = {int(width) for width in re.findall(r"\.DATA_WIDTH_A\(32'd(\d+)\)", text)}
    cells, design = open_block(text, name=TOP), open_block(Sample())
    ports = {"data": 36, "bytes": 4, "read": 1, "a": 17, "b": 17}
    for cycle in range(CYCLES):
        values = {name: int(rng.integers(0, 1 << width)) for name, width in ports.items()}
        # Few addresses, so that words that were written are read, now and then in the same cycle; all of them now and then.
        few = 4 if cycle % 4 else 1 << 14
        values |= {name: int(rng.integers(0, few)) for name in ("write_address", "read_address")}
        for block in (cells, design):
            for name, value in values.items():
                setattr(block.io, name, value)
            block.clock.tick()
        arithmetic = ("unsigned", "mixed", "signed", "held", "sum", "signed_sum", "count")
        for name in (*(f"read_{depth}" for depth, _ in SHAPES), "first", "second", *arithmetic):
            found, expected = (int(getattr(block.io, name)) for block in (cells, design))
            assert found == expected, (
                f"{name} in cycle {cycle}, block RAM of {sorted(widths)} bits, seed {seed}: {found:#x} {expected:#x}"
            )


def test_a_cell_without_a_model_is_named() -> None:
    with pytest.raises(ToolError, match=r"^there is no model of the cells ALU54B, EHXPLLL: add one to ecp5\.v$"):
        netlist._models({"EHXPLLL", "LUT4", "ALU54B"})


def test_models_are_those_that_are_needed() -> None:
    text = "\n".join(netlist._models({"MULT18X18D", "CCU2C"}))
    assert re.findall(r"^module (\w+)", text, re.MULTILINE) == ["LUT4", "LUT2", "CCU2C", "MULT18X18D"]
