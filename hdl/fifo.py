"""A first-in first-out buffer between two streams."""

from amaranth.hdl import Cat, Module, Mux, Shape, ShapeLike, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

#: Deepest buffer that is built from look-up tables, which hold 16 rows on the smallest FPGAs; deeper ones use block RAM.
SMALL_DEPTH = 16


class StreamFifo(wiring.Component):
    """A first-in first-out buffer between two streams.

    Two entries lie in registers, up to `SMALL_DEPTH` in distributed RAM, more in block RAM. `i.ready` depends on registers
    only, never on `o.ready`, so a small buffer also cuts a long path of ready signals. Without its own flush input: wrap it in
    `amaranth.hdl.ResetInserter` to empty it.

    Latency: an entry taken in cycle t is on `o` from cycle t+1 on, or t+2 with block RAM. Throughput: one entry a cycle,
    but a buffer of depth 1 alternates between taking and giving.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.
    depth : int
        Entries that it holds, at least 1.

    Attributes
    ----------
    i : stream of `shape`, in
    o : stream of `shape`, out
    level : Signal(range(depth + 1)), out
        Entries held.

    Raises
    ------
    ValueError
        If `depth` is not a positive whole number.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        if not isinstance(depth, int) or depth < 1:
            raise ValueError(f"depth must be a positive whole number, not {depth!r}")
        self.shape, self.depth = shape, depth
        #: Cycles from `i` to `o`.
        self.latency = 1 if depth <= SMALL_DEPTH else 2
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.depth == 2:
            self._in_registers(m)
        else:
            self._in_memory(m)
        return m

    def _in_registers(self, m: Module) -> None:
        i, o = self.i, self.o
        full = Signal()
        second = Signal(self.shape, reset_less=True)
        keeps = o.valid & ~o.ready
        m.d.comb += [i.ready.eq(~full), self.level.eq(o.valid + full)]
        m.d.sync += [o.valid.eq(keeps | full | i.valid), full.eq(keeps & (full | i.valid))]
        with m.If(~keeps):
            m.d.sync += o.payload.eq(Mux(full, second, i.payload))
        with m.If(~full):
            m.d.sync += second.eq(i.payload)

    def _in_memory(self, m: Module) -> None:
        kind = fifo.SyncFIFO if self.depth <= SMALL_DEPTH else fifo.SyncFIFOBuffered
        m.submodules.inner = inner = kind(width=Shape.cast(self.shape).width, depth=self.depth)
        m.d.comb += [
            inner.w_data.eq(Cat(self.i.payload)),
            inner.w_en.eq(self.i.valid),
            self.i.ready.eq(inner.w_rdy),
            Cat(self.o.payload).eq(inner.r_data),
            self.o.valid.eq(inner.r_rdy),
            inner.r_en.eq(self.o.ready),
            self.level.eq(inner.level),
        ]
