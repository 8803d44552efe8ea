"""The SLIP encoder: frames to bytes of the line."""

from amaranth.hdl import Module, Mux
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.link import END, ESCAPE, ESCAPED_END, ESCAPED_ESCAPE


def outgoing_byte_layout() -> data.StructLayout:
    """A byte of a frame; `last` marks the last one."""
    return data.StructLayout({"data": 8, "last": 1})


class SlipEncoder(wiring.Component):
    """Pack frames as `tailrace.spec.link.encode` does: `END` before and after, two bytes for an `END` or `ESCAPE` inside.

    Latency: none, but for the `END` that goes first. Throughput: a byte of the line a cycle.

    Attributes
    ----------
    i : stream of `outgoing_byte_layout`, in
    o : stream of 8, out
    """

    i: In(stream.Signature(outgoing_byte_layout()))
    o: Out(stream.Signature(8))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, o = self.i, self.o
        byte = i.payload.data

        def go_on() -> None:
            m.d.comb += i.ready.eq(o.ready)
            with m.If(o.valid & o.ready):
                with m.If(i.payload.last):
                    m.next = "END"
                with m.Else():
                    m.next = "BYTE"

        with m.FSM():
            with m.State("BEGIN"):
                m.d.comb += [o.valid.eq(i.valid), o.payload.eq(END)]
                with m.If(o.valid & o.ready):
                    m.next = "BYTE"
            with m.State("BYTE"):
                m.d.comb += o.valid.eq(i.valid)
                with m.If((byte == END) | (byte == ESCAPE)):
                    m.d.comb += o.payload.eq(ESCAPE)
                    with m.If(o.valid & o.ready):
                        m.next = "ESCAPED"
                with m.Else():
                    m.d.comb += o.payload.eq(byte)
                    go_on()
            with m.State("ESCAPED"):
                m.d.comb += [o.valid.eq(i.valid), o.payload.eq(Mux(byte == END, ESCAPED_END, ESCAPED_ESCAPE))]
                go_on()
            with m.State("END"):
                m.d.comb += [o.valid.eq(1), o.payload.eq(END)]
                with m.If(o.ready):
                    m.next = "BEGIN"
        return m
