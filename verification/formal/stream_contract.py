"""The contract of a stream part, for any component with streams `i` and `o` of one shape."""

from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Signal
from amaranth.hdl._ast import AnySeq


class StreamContract(Elaboratable):
    """Claims that a component gives what it takes: every entry, once, in order, and steady while it waits.

    One entry, chosen by the prover, is watched: the entries before it are counted as they leave, then it must come out as it
    went in. Since it can be any entry, all of them do.

    Parameters
    ----------
    component : wiring.Component
        With streams `i` and `o`. It must not look at what it carries, so a narrow shape stands for all.
    capacity : int
        Entries that it holds at most.
    latency : int
        Cycles in which an entry that is held reaches `o`, if nothing is before it.
    """

    def __init__(self, component, capacity: int, latency: int) -> None:
        self.component, self.capacity, self.latency = component, capacity, latency

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.component = component = self.component
        i, o = component.i, component.o
        width = len(Cat(i.payload))
        started = Signal()
        m.d.sync += started.eq(1)

        # Whoever drives `i` keeps the same contract; whoever reads `o` is free.
        taken, given = i.valid & i.ready, o.valid & o.ready
        m.d.comb += [i.valid.eq(AnySeq(1)), Cat(i.payload).eq(AnySeq(width)), o.ready.eq(AnySeq(1))]
        offered_i, offered_o = Signal(), Signal()
        before_i, before_o = Signal(width), Signal(width)
        m.d.sync += [offered_i.eq(i.valid & ~i.ready), before_i.eq(Cat(i.payload))]
        m.d.sync += [offered_o.eq(o.valid & ~o.ready), before_o.eq(Cat(o.payload))]
        with m.If(offered_i):
            m.d.comb += Assume(i.valid & (Cat(i.payload) == before_i))
        with m.If(offered_o):
            m.d.comb += Assert(o.valid & (Cat(o.payload) == before_o), "an entry on offer changed or vanished")

        held = Signal(range(self.capacity + 1))
        m.d.sync += held.eq(held + taken - given)
        with m.If(taken & ~given):
            m.d.comb += Assert(held < self.capacity, "more entries were taken than fit")
        with m.If(given):
            m.d.comb += Assert(held != 0, "an entry came from nowhere")

        watched, ahead, value = Signal(), Signal.like(held), Signal(width)
        with m.If(taken & ~watched & AnySeq(1)):
            m.d.sync += [watched.eq(1), ahead.eq(held - given), value.eq(Cat(i.payload))]
        with m.If(watched & given):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += watched.eq(0)
                m.d.comb += Assert(Cat(o.payload) == value, "an entry was lost, repeated, reordered or changed")

        late = Signal(range(self.latency + 1))
        m.d.sync += late.eq(0)
        with m.If((held != 0) & ~o.valid):
            m.d.sync += late.eq(late + 1)
            m.d.comb += Assert(late + 1 < self.latency, "an entry that is held does not come")
        return m
