"""Two streams into one."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class StreamMerge(wiring.Component):
    """Pass on the transfers of two streams, those of `first` before those of `i` when both wait.

    An offer that has been made stays: what waits at `o` is not replaced by something more urgent. Combinational, one
    transfer a cycle.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload of all three streams.

    Attributes
    ----------
    first, i : streams, in
    o : stream, out
    """

    def __init__(self, shape: ShapeLike) -> None:
        signature = stream.Signature(shape)
        super().__init__({"first": In(signature), "i": In(signature), "o": Out(signature)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # 1 while a transfer of `i` has been offered at `o` and not been taken.
        offered = Signal()
        use_first = self.first.valid & ~offered
        m.d.comb += [
            self.o.valid.eq(self.first.valid | self.i.valid),
            self.o.payload.eq(Mux(use_first, self.first.payload, self.i.payload)),
            self.first.ready.eq(self.o.ready & use_first),
            self.i.ready.eq(self.o.ready & ~use_first),
        ]
        m.d.sync += offered.eq(self.i.valid & ~use_first & ~self.o.ready)
        return m
