"""What the write master owes to the bus."""

from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Signal
from amaranth.hdl._ast import AnySeq
from amaranth.utils import exact_log2

from tailrace.hdl.axi.write_master import BURST_BEATS
from verification.formal.visible_fifo import CountingFifo, VisibleFifo


class WriteMasterRules(Elaboratable):
    """A write master between free sources of requests and values and a free memory, and AXI's rules for it.

    That each burst has the beats that it announces is shown by simulation, not here.

    Parameters
    ----------
    dut : WriteMaster
    inductive : bool
        Also claim what the registers always satisfy, which induction needs.
    """

    def __init__(self, dut, inductive: bool = True) -> None:
        self.dut, self.inductive = dut, inductive
        # Buffers keep their contract (proved on its own), so ones that can be looked into may stand for them.
        dut.requests = VisibleFifo(dut.requests.shape, 2)
        dut.bursts = VisibleFifo(dut.bursts.shape, 2)
        dut.beats = CountingFifo(dut.beats.shape, dut.beats.depth)
        dut.unanswered = VisibleFifo(dut.unanswered.shape, 4)

    def state(self, claim, text: str):
        """Claim about the registers."""
        return Assert(claim, text, src_loc_at=1) if self.inductive else []

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        axi = dut.axi
        for free in (dut.request.valid, dut.i.valid, dut.flush, axi.aw.ready, axi.w.ready, axi.b.valid):
            m.d.comb += free.eq(AnySeq(1))
        for payload in (dut.request.payload, dut.i.payload, axi.b.payload):
            m.d.comb += Cat(payload).eq(AnySeq(len(Cat(payload))))
        m.d.comb += Assume((dut.request.payload.entries != 0) & (dut.request.payload.address[:6] == 0))

        flushing = Signal()
        m.d.sync += flushing.eq(dut.flush & ~dut.idle)
        m.d.comb += Assume(~flushing | dut.flush)
        self._steady(m)
        self._bursts(m)
        self._answers(m)
        return m

    def _steady(self, m: Module) -> None:
        """AXI A3.2.1: a stalled channel keeps what it offers, also in a flush."""
        for name, channel in (("aw", self.dut.axi.aw), ("w", self.dut.axi.w)):
            stalled, before = Signal(name=f"{name}_stalled"), Signal.like(Cat(channel.payload), name=f"{name}_before")
            m.d.sync += [stalled.eq(channel.valid & ~channel.ready), before.eq(Cat(channel.payload))]
            stands = channel.valid & (Cat(channel.payload) == before)
            m.d.comb += Assert(~stalled | stands, "a channel changed while stalled")
        m.d.comb += Assert(self.dut.axi.b.ready, "b is not always ready")

    def _bursts(self, m: Module) -> None:
        """AXI A3.4.1: no burst crosses 4 KiB."""
        dut, burst = self.dut, self.dut.axi.aw.payload
        size = dut.config.bus_bytes
        size_bits, unit_bits = exact_log2(size), exact_log2(size * BURST_BEATS)
        with m.If(dut.axi.aw.valid):
            m.d.comb += [
                Assert(burst.length < BURST_BEATS, "a burst is too long"),
                Assert(burst.address[:size_bits] == 0, "a burst does not start at a beat"),
                Assert(burst.address[size_bits:12] + burst.length < 4096 // size, "a burst crosses 4 KiB"),
            ]

        def within(one):
            """Whether a burst is aligned and lies in one unit."""
            return (one.address[:size_bits] == 0) & (one.address[size_bits:unit_bits] + one.length < BURST_BEATS)

        m.d.comb += [
            *(self.state(~dut.bursts.holds(n) | within(one), "bursts queued") for n, one in enumerate(dut.bursts.entries)),
            self.state(~dut.aw_valid | within(dut.aw), "the burst on aw"),
            self.state(~dut.packed_valid | within(dut.burst), "the burst that is packed"),
        ]
        for n, request in enumerate(dut.requests.entries):
            m.d.comb += self.state(~dut.requests.holds(n) | (request.address[:size_bits] == 0), "requests")
        with m.If(dut.current_valid):
            m.d.comb += self.state(dut.current.address[:size_bits] == 0, "the request at hand")
        with m.If(~dut.packed.last):
            following = dut.burst.address[size_bits:unit_bits] + dut.burst.length + 1
            continues = dut.current_valid & within(dut.burst) & (dut.current.address[size_bits:unit_bits] == following)
            m.d.comb += self.state(continues, "a burst that is begun goes on")

    def _answers(self, m: Module) -> None:
        """Only bursts on `aw` send beats, every answer is recognised, and none is owed when all is idle."""
        dut, aw, w, b = self.dut, self.dut.axi.aw, self.dut.axi.w, self.dut.axi.b
        # Bursts without an answer: those that were on `aw`, that were accepted there, and whose last beat was sent.
        shown, accepted, sent = Signal(9), Signal(8), Signal(8)
        m.d.sync += [
            accepted.eq(accepted + (aw.valid & aw.ready) - b.valid),
            sent.eq(sent + (w.valid & w.ready & w.payload.last) - b.valid),
        ]
        m.d.comb += [
            shown.eq(accepted + aw.valid),
            # The memory answers bursts that it has in full.
            Assume(~b.valid | ((accepted != 0) & (sent != 0))),
            Assert(~w.valid | (sent < shown), "a beat of a burst that is not on aw"),
            Assert(~b.valid | dut.unanswered.o.valid, "an answer is not recognised"),
            Assert(~dut.idle | ((accepted == 0) & ~aw.valid & ~w.valid), "idle though something is on its way"),
            self.state(sent + dut.promised == shown, "promised"),
            self.state(shown == dut.unanswered.level, "unanswered"),
        ]
