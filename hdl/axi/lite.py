"""The AXI4-Lite slave: five channels in, single-cycle register accesses out."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class AxiLite(wiring.Signature):
    """AXI4-Lite with 32-bit data, seen from the master (ARM IHI 0022, part B)."""

    def __init__(self, address_width: int) -> None:
        super().__init__(
            {
                "aw": Out(stream.Signature(data.StructLayout({"address": address_width}))),
                "w": Out(stream.Signature(data.StructLayout({"data": 32, "strobe": 4}))),
                "b": In(stream.Signature(data.StructLayout({"response": 2}))),
                "ar": Out(stream.Signature(data.StructLayout({"address": address_width}))),
                "r": In(stream.Signature(data.StructLayout({"data": 32, "response": 2}))),
            }
        )


class LiteSlave(wiring.Component):
    """Turn AXI4-Lite transfers into register accesses.

    Address and data of a write are taken in any order; it acts two cycles after the later of the two, and its response follows
    a cycle later. A read acts two cycles after its address was taken, or when its data is there, and its data follows a cycle
    later. So at most one write every three cycles and one read every four, because no output depends on an input in the same
    cycle (A3.2.1). All transfers are answered OKAY, as register maps made by high-level synthesis do.

    Attributes
    ----------
    axi : AxiLite, in
    hold : in
        1 in cycles in which no access may act.
    write, write_offset, write_data, write_strobe : out
        In a cycle in which `write` is 1, the bytes of `write_data` whose strobe is 1 go to the register at `write_offset`. All
        but `write` are as they were in the cycle before, in which it can be worked out which register that is.
    read, read_offset : out
        While `read` is 1, the register at `read_offset` is wanted. The offset is as it was in the cycle before.
    found, read_data : in
        The read acts in the cycle in which `read` and `found` are 1: `read_data` must be what the register holds.
    """

    def __init__(self, address_width: int) -> None:
        super().__init__(
            {
                "axi": In(AxiLite(address_width)),
                "hold": In(1),
                "write": Out(1),
                "write_offset": Out(address_width),
                "write_data": Out(32),
                "write_strobe": Out(4),
                "read": Out(1),
                "read_offset": Out(address_width),
                "found": In(1),
                "read_data": In(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        axi = self.axi
        address_valid, data_valid, writing = Signal(), Signal(), Signal()
        asked, reading = Signal(), Signal()
        m.d.comb += [
            axi.aw.ready.eq(~address_valid),
            axi.w.ready.eq(~data_valid),
            self.write.eq(writing & ~self.hold),
            axi.ar.ready.eq(~axi.r.valid & ~asked),
            self.read.eq(reading & ~self.hold),
        ]
        with m.If(axi.aw.valid & axi.aw.ready):
            m.d.sync += [address_valid.eq(1), self.write_offset.eq(axi.aw.payload.address)]
        with m.If(axi.w.valid & axi.w.ready):
            m.d.sync += [
                data_valid.eq(1),
                self.write_data.eq(axi.w.payload.data),
                self.write_strobe.eq(axi.w.payload.strobe),
            ]
        with m.If(self.write):
            m.d.sync += [address_valid.eq(0), data_valid.eq(0), writing.eq(0), axi.b.valid.eq(1)]
        with m.Else():
            m.d.sync += writing.eq(address_valid & data_valid & ~axi.b.valid)
            with m.If(axi.b.ready):
                m.d.sync += axi.b.valid.eq(0)
        with m.If(axi.ar.valid & axi.ar.ready):
            m.d.sync += [asked.eq(1), self.read_offset.eq(axi.ar.payload.address)]
        with m.If(self.read & self.found):
            m.d.sync += [asked.eq(0), reading.eq(0), axi.r.valid.eq(1), axi.r.payload.data.eq(self.read_data)]
        with m.Else():
            m.d.sync += reading.eq(asked)
            with m.If(axi.r.ready):
                m.d.sync += axi.r.valid.eq(0)
        return m
