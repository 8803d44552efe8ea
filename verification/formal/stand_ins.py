"""Buffers that stand for a `StreamFifo` in the proof of a larger part: each can do all that the real one can, and more.

What they may do is chosen by the prover. That the real buffers are contained in them is proved in test_stand_ins.py.
"""

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.hdl._ast import AnySeq
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

#: Bits of the number of an entry. Numbers wrap; no buffer holds as many entries.
NUMBER_BITS = 10
#: Bits of a note.
NOTE_BITS = 8


class ForgetfulFifo(wiring.Component):
    """A buffer that counts its entries and forgets them: the prover chooses what comes out, and when.

    Parameters
    ----------
    shape : ShapeLike
    depth : int
        Entries that it holds. It takes one whenever it has room.
    latency : int or None
        Cycles after which an entry that was taken, and has none before it, is offered at the latest: 1, 2, or none. The prover may
        offer it sooner, but not in the cycle in which it is taken.
    choices : tuple of (Value, Value) or None
        Whether an entry that may be kept back is offered, and what is offered where that is free. None leaves them to the prover;
        to show that a part is contained, they are what that part does.
    """

    def __init__(
        self, shape: ShapeLike, depth: int, latency: int | None = None, choices: tuple[Value, Value] | None = None
    ) -> None:
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))})
        assert latency in (1, 2, None)
        assert depth < 1 << NUMBER_BITS
        self.shape, self.depth, self.latency, self._choices = shape, depth, latency, choices
        #: The last entry was taken in the cycle before.
        self.young = Signal()
        #: An entry that was offered, and not taken, must be offered again.
        self.offered = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        o, level, width = self.o, Signal.like(self.level), Shape.cast(self.shape).width
        taken, given = self.i.valid & self.i.ready, o.valid & o.ready
        m.d.sync += [level.eq(level + taken - given), self.young.eq(taken), self.offered.eq(o.valid & ~o.ready)]
        eager, anything = self._choices or (AnySeq(1), AnySeq(width))
        due = {None: 0, 1: level != 0, 2: level > self.young}[self.latency]
        m.d.comb += [
            self.level.eq(level),
            self.i.ready.eq(level != self.depth),
            o.valid.eq((level != 0) & (due | self.offered | eager)),
            Assert((level <= self.depth) & (~(self.young | self.offered) | (level != 0)), "state: level"),
        ]
        self.contents(m, taken, given, anything)
        return m

    def contents(self, m: Module, taken: Value, given: Value, anything: Value) -> None:
        """Drive the payload of `o`."""
        before = Signal(len(anything))
        m.d.sync += before.eq(Cat(self.o.payload))
        m.d.comb += Cat(self.o.payload).eq(Mux(self.offered, before, anything))


class WatchedFifo(ForgetfulFifo):
    """A buffer that remembers one of its entries, the one with the number `watch`, and forgets the others.

    Entries are numbered as they are taken. As `watch` can be any number, what is proved of one entry is proved of all.
    """

    def __init__(self, *arguments, watch: Value, **named) -> None:
        super().__init__(*arguments, **named)
        self.watch = watch
        #: Numbers of the next entry to be taken, and of the next one to be given.
        self.last, self.first = Signal(NUMBER_BITS), Signal(NUMBER_BITS)
        #: The entry that is watched, once it was taken.
        self.kept = Signal(self.shape)

    @property
    def place(self) -> Value:
        """How many entries are before the one that is watched."""
        return (self.watch - self.first)[:NUMBER_BITS]

    @property
    def holds(self) -> Value:
        """Whether the entry that is watched is there."""
        return self.place < self.level

    def contents(self, m: Module, taken: Value, given: Value, anything: Value) -> None:
        other = Signal(len(anything))
        with m.If(taken & (self.last == self.watch)):
            m.d.sync += Cat(self.kept).eq(Cat(self.i.payload))
        m.d.sync += [self.last.eq(self.last + taken), self.first.eq(self.first + given), other.eq(Cat(self.o.payload))]
        payload = Mux(self.first == self.watch, Cat(self.kept), Mux(self.offered, other, anything))
        m.d.comb += [
            Cat(self.o.payload).eq(payload),
            Assert((self.last - self.first)[:NUMBER_BITS] == self.level, "state: numbers"),
        ]


class VisibleFifo(ForgetfulFifo):
    """A buffer whose every entry is a signal, oldest first, so that claims can be made about it.

    The proof may have a note kept with each entry: what `note` is when the entry is taken.
    """

    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        self.entries = [Signal(self.shape, name=f"entry{n}") for n in range(self.depth)]
        self.note = Signal(NOTE_BITS)
        self.notes = [Signal(NOTE_BITS, name=f"note{n}") for n in range(self.depth)]

    def holds(self, n: int) -> Value:
        """Whether entry `n` is there."""
        return self.level > n

    def contents(self, m: Module, taken: Value, given: Value, anything: Value) -> None:
        m.d.comb += self.o.payload.eq(self.entries[0])
        for entries, last in ((self.entries, self.i.payload), (self.notes, self.note)):
            with m.If(given):
                m.d.sync += [entry.eq(following) for entry, following in zip(entries, entries[1:], strict=False)]
            with m.If(taken):
                m.d.sync += Array(entries)[self.level - given].eq(last)
