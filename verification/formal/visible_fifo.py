"""Buffers that stand for a `StreamFifo` in the proof of a larger part. They keep the contract that is proved of it."""

from amaranth.hdl import Array, Assert, Cat, Module, Mux, ShapeLike, Signal
from amaranth.hdl._ast import AnySeq
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

#: Bits of a note.
NUMBER_BITS = 8


class VisibleFifo(wiring.Component):
    """A buffer whose every entry is a signal, oldest first, so that claims can be made about it.

    The proof may have a note kept with each entry: what `note` is when the entry is taken.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))})
        self.entries = [Signal(shape, name=f"entry{n}") for n in range(depth)]
        self.note = Signal(NUMBER_BITS)
        self.notes = [Signal(NUMBER_BITS, name=f"note{n}") for n in range(depth)]

    def holds(self, n: int):
        """Whether entry `n` is there."""
        return self.level > n

    def elaborate(self, platform: object) -> Module:
        m = Module()
        level = Signal.like(self.level)
        taken, given = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        m.d.comb += [
            self.level.eq(level),
            self.i.ready.eq(level != len(self.entries)),
            self.o.valid.eq(level != 0),
            self.o.payload.eq(self.entries[0]),
            Assert(level <= len(self.entries), "state: level"),
        ]
        m.d.sync += level.eq(level + taken - given)
        for entries, last in ((self.entries, self.i.payload), (self.notes, self.note)):
            with m.If(given):
                m.d.sync += [entry.eq(following) for entry, following in zip(entries, entries[1:], strict=False)]
            with m.If(taken):
                m.d.sync += Array(entries)[level - given].eq(last)
        return m


class CountingFifo(wiring.Component):
    """A buffer of any depth that forgets what it holds: the prover chooses what comes out, and when."""

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))})
        self.depth = depth

    def elaborate(self, platform: object) -> Module:
        m = Module()
        o, level = self.o, Signal.like(self.level)
        offered, before = Signal(), Signal.like(Cat(o.payload))
        m.d.sync += [
            level.eq(level + (self.i.valid & self.i.ready) - (o.valid & o.ready)),
            offered.eq(o.valid & ~o.ready),
            before.eq(Cat(o.payload)),
        ]
        m.d.comb += [
            self.level.eq(level),
            self.i.ready.eq(level != self.depth),
            o.valid.eq((level != 0) & (offered | AnySeq(1))),
            Cat(o.payload).eq(Mux(offered, before, AnySeq(len(before)))),
            Assert((level <= self.depth) & (~offered | (level != 0)), "state: level"),
        ]
        return m
