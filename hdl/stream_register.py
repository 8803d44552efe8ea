"""A register between two streams."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class StreamRegister(wiring.Component):
    """Cut all paths between two streams: `o` and `i.ready` come straight from registers.

    Unlike a small `StreamFifo` of more than two entries, which has distributed RAM at its output, this has nothing there: it
    belongs between block RAM and logic. One of two entries tells how many it holds besides. The price is two registers for each
    bit: the one at `o`, and one for what comes in the cycle in which `o` learns that it must wait.

    Latency: 1 cycle. Throughput: one transfer a cycle.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.

    Attributes
    ----------
    i : stream of `shape`, in
    o : stream of `shape`, out
    """

    #: Cycles from `i` to `o`.
    latency = 1

    def __init__(self, shape: ShapeLike) -> None:
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        waiting = Signal()
        spare = Signal(self.shape, reset_less=True)
        # Not `waiting`, which goes to every bit of the payload: a register with few readers is a short way for those before it.
        ready = Signal(init=1, attrs={"keep": True})
        m.d.comb += self.i.ready.eq(ready)
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [
                self.o.valid.eq(self.i.valid | waiting),
                self.o.payload.eq(Mux(waiting, spare, self.i.payload)),
                waiting.eq(0),
                ready.eq(1),
            ]
        with m.Elif(self.i.valid):
            m.d.sync += [waiting.eq(1), ready.eq(0)]
        with m.If(~waiting):
            m.d.sync += spare.eq(self.i.payload)
        return m
