"""What a word access owes to the buses, and to whoever waits for it."""

from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Signal
from amaranth.hdl._ast import AnySeq

from tailrace.hdl.link.word_access import WordAccess


class WordAccessRules(Elaboratable):
    """A word access between buses that answer what they were asked, once, at any time or never, and a host that does anything."""

    def __init__(self, dut: WordAccess) -> None:
        self.dut = dut

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        i, o, control, read, write = dut.i, dut.o, dut.control, dut.read, dut.write
        asked = (control.ar, control.aw, control.w, read.ar, write.aw, write.w)
        answers = (control.r, control.b, read.r, write.b)
        for stream in (o, *asked):
            m.d.comb += stream.ready.eq(AnySeq(1))
        for stream in (i, *answers):
            m.d.comb += [stream.valid.eq(AnySeq(1)), Cat(stream.payload).eq(AnySeq(len(Cat(stream.payload))))]

        for n, stream in enumerate((o, *asked)):
            stalled, before = Signal(name=f"stalled_{n}"), Signal(len(Cat(stream.payload)), name=f"before_{n}")
            m.d.sync += [stalled.eq(stream.valid & ~stream.ready), before.eq(Cat(stream.payload))]
            stands = stream.valid & (Cat(stream.payload) == before)
            m.d.comb += Assert(~stalled | stands, "what was on offer changed before it was taken")

        # What each answering channel owes: an answer to what was taken on all the channels that ask there.
        owed = Signal(4)
        half = {}
        for n, (parts, answer) in enumerate(
            (
                ((control.ar,), control.r),
                ((control.aw, control.w), control.b),
                ((read.ar,), read.r),
                ((write.aw, write.w), write.b),
            )
        ):
            taken = [part.valid & part.ready for part in parts]
            if len(parts) == 2:
                seen = half[n] = Signal(2, name=f"seen_{n}")
                both = (seen | Cat(taken)).all()
                with m.If(both):
                    m.d.sync += seen.eq(0)
                with m.Else():
                    m.d.sync += seen.eq(seen | Cat(taken))
            else:
                both = taken[0]
            with m.If(both):
                m.d.sync += owed[n].eq(1)
            with m.Elif(answer.valid & answer.ready):
                m.d.sync += owed[n].eq(0)
            m.d.comb += [
                Assume(~answer.valid | owed[n]),
                Assert(~owed[n] | answer.ready, "the bus can not get rid of an answer"),
            ]
        under_way = sum(owed[n] for n in range(4)) + sum(seen.any() for seen in half.values())
        m.d.comb += Assert(under_way <= 1, "two transfers at once")

        # How long the access has been waiting, and whether the bus was asked since it was taken.
        waited, asked_since = Signal(range(dut.watchdog_cycles + 2)), Signal()
        fresh = Signal()
        with m.If(i.valid & i.ready):
            m.d.sync += [waited.eq(0), asked_since.eq(0), fresh.eq(0)]
        with m.Else():
            with m.If(~o.valid & ~i.ready):
                m.d.sync += waited.eq(waited + 1)
            with m.If(Cat(stream.valid & stream.ready for stream in asked).any()):
                m.d.sync += asked_since.eq(1)
            with m.If(Cat(stream.valid & stream.ready for stream in answers).any() & asked_since):
                m.d.sync += fresh.eq(1)
        m.d.comb += [
            Assert(waited <= dut.watchdog_cycles, "an access does not end"),
            Assert(~o.valid | o.payload.error | fresh, "an outcome that is not that of its own transfer"),
            Assert(~o.valid | ~i.ready, "an access is taken before the outcome of the one before"),
        ]
        return m
