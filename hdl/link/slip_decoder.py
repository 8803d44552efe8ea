"""The SLIP decoder: frames from received bytes."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.link import END, ESCAPE, ESCAPED_END, ESCAPED_ESCAPE

from .uart_receiver import received_byte_layout


def frame_byte_layout() -> data.StructLayout:
    """A byte of a frame, or with `end` what follows its last byte; only then `damaged` counts, and `data` does not."""
    return data.StructLayout({"data": 8, "end": 1, "damaged": 1})


class SlipDecoder(wiring.Component):
    """Take the packing of RFC 1055 off.

    Every `END` gives an end, also those that enclose nothing. A frame is damaged if one of its bytes was, or if an `ESCAPE`
    is followed by what it can not be followed by. Latency: none. Throughput: a byte a cycle.

    Attributes
    ----------
    i : stream of `received_byte_layout`, in
    o : stream of `frame_byte_layout`, out
        Neither has a `ready`.
    """

    i: In(stream.Signature(received_byte_layout(), always_ready=True))
    o: Out(stream.Signature(frame_byte_layout(), always_ready=True))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        escaped, damaged = Signal(), Signal()
        byte, o = self.i.payload.data, self.o
        m.d.comb += [o.payload.data.eq(byte), o.payload.damaged.eq(damaged | escaped)]
        with m.If(self.i.valid):
            m.d.sync += escaped.eq(0)
            with m.If(self.i.payload.damaged):
                m.d.sync += damaged.eq(1)
            with m.Elif(byte == END):
                m.d.comb += [o.valid.eq(1), o.payload.end.eq(1)]
                m.d.sync += damaged.eq(0)
            with m.Elif(escaped):
                m.d.comb += o.valid.eq(1)
                with m.Switch(byte):
                    with m.Case(ESCAPED_END):
                        m.d.comb += o.payload.data.eq(END)
                    with m.Case(ESCAPED_ESCAPE):
                        m.d.comb += o.payload.data.eq(ESCAPE)
                    with m.Default():
                        m.d.sync += damaged.eq(1)
            with m.Elif(byte == ESCAPE):
                m.d.sync += escaped.eq(1)
            with m.Else():
                m.d.comb += o.valid.eq(1)
        return m
