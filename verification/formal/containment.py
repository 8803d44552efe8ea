"""That a buffer can do nothing which its stand-in could not do as well."""

from collections.abc import Iterator

from amaranth.hdl import Assert, Cat, Const, Elaboratable, Fragment, Module, Mux, ResetInserter, Signal
from amaranth.hdl._ast import AnyConst, AnySeq
from amaranth.hdl._mem import MemoryInstance

from tailrace.hdl.fifo import StreamFifo
from verification.formal.stand_ins import NUMBER_BITS, ForgetfulFifo, VisibleFifo, WatchedFifo


class Containment(Elaboratable):
    """A part and a `WatchedFifo` with the same inputs, whose choices are what the part does: the outputs must be the same.

    The entry that is watched can be any. So a part that is contained gives every entry as it was taken, in order, and offers it
    when the stand-in has to; and two such parts that offer their entries in the same cycles are the same. It can be reset at any
    time.

    Parameters
    ----------
    part : StreamFifo or ForgetfulFifo
    latency : int or None
        Of the stand-in.
    depth : int or None
        Of the stand-in, if it is not that of the part.
    inductive : bool
        Also claim what the memory always holds, which induction needs.
    """

    def __init__(
        self, part: StreamFifo | ForgetfulFifo, latency: int | None, depth: int | None = None, inductive: bool = True
    ) -> None:
        self.part, self.inductive, self.watch = part, inductive, Signal(NUMBER_BITS)
        choices = part.o.valid, Cat(part.o.payload)
        self.stand_in = WatchedFifo(part.shape, depth or part.depth, latency, choices, watch=self.watch)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        part, stand_in, reset = self.part, self.stand_in, Signal()
        fragment = Fragment.get(part, platform)
        m.d.comb += [reset.eq(AnySeq(1)), self.watch.eq(AnyConst(NUMBER_BITS))]
        m.d.comb += [
            part.i.valid.eq(AnySeq(1)),
            Cat(part.i.payload).eq(AnySeq(len(Cat(part.i.payload)))),
            part.o.ready.eq(AnySeq(1)),
        ]
        m.d.comb += [
            stand_in.i.valid.eq(part.i.valid),
            stand_in.i.payload.eq(part.i.payload),
            stand_in.o.ready.eq(part.o.ready),
        ]
        m.d.comb += [
            Assert(part.i.ready == stand_in.i.ready, "it takes an entry, or does not, unlike the stand-in"),
            Assert(part.o.valid == stand_in.o.valid, "it offers an entry, or does not, unlike the stand-in"),
            Assert(~part.o.valid | (Cat(part.o.payload) == Cat(stand_in.o.payload)), "it offers what the stand-in can not"),
            Assert(part.level == stand_in.level, "it holds more or less than the stand-in"),
        ]
        if not self.inductive:
            pass
        elif isinstance(part, StreamFifo) and part.depth == 2:
            second = next(signal for signal in _signals(fragment) if signal.name == "second")
            kept = ~stand_in.holds | (stand_in.place != 1) | (second == Cat(stand_in.kept))
            m.d.comb += Assert(kept, "state: the entry that is watched")
        elif isinstance(part, StreamFifo):
            self._memory(m, fragment)
        elif isinstance(part, VisibleFifo):
            for n, entry in enumerate(part.entries):
                kept = ~stand_in.holds | (stand_in.place != n) | (Cat(entry) == Cat(stand_in.kept))
                m.d.comb += Assert(kept, "state: the entry that is watched")
        # Last, as it copies the part.
        m.submodules.part, m.submodules.stand_in = ResetInserter(reset)(fragment), ResetInserter(reset)(stand_in)
        return m

    def _memory(self, m: Module, fragment: Fragment) -> None:
        """Claim where in its memory the buffer has the entry that is watched, through a port that only the proof has."""
        stand_in, inner = self.stand_in, fragment.find_subfragment("inner")
        memory = inner.find_subfragment("storage")
        assert isinstance(memory, MemoryInstance)
        consume = next(signal for signal in _signals(inner) if signal.name == "consume")
        rows = memory._data.depth
        # A buffer with one row more than its memory has an output register, which is not read from the memory.
        out = self.part.o.valid if rows < self.part.depth else Const(0)
        ahead = (stand_in.place - out)[:NUMBER_BITS]
        place = (consume + ahead)[: NUMBER_BITS + 1]
        address, found = Signal(range(rows)), Signal(len(Cat(self.part.i.payload)))
        memory.read_port(domain="comb", addr=address, data=found, en=Const(1), transparent_for=())
        m.d.comb += [
            address.eq(Mux(place >= rows, place - rows, place)),
            Assert(
                ~stand_in.holds | (out & (stand_in.place == 0)) | (found == Cat(stand_in.kept)),
                "state: the entry that is watched",
            ),
        ]


def _signals(fragment: Fragment) -> Iterator[Signal]:
    """Yield the signals that the fragment itself drives."""
    for statements in fragment.statements.values():
        yield from statements._lhs_signals()
