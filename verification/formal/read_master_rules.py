"""What the read master owes to the bus: AXI's rules, room for all that it asks for, and an end to a flush."""

from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Mux, Signal
from amaranth.hdl._ast import AnyConst, AnySeq
from amaranth.utils import exact_log2

from tailrace.hdl.axi.signature import PAGE_BITS
from verification.formal.stand_ins import ForgetfulFifo, VisibleFifo


class ReadMasterRules(Elaboratable):
    """A read master between a free source of requests, a free memory and a free reader, and what it owes to the bus.

    Parameters
    ----------
    dut : ReadMaster
    inductive : bool
        Also claim what the registers always satisfy, which induction needs. Without it, only what others may rely on is claimed.
    stand_in_for_requests : class
        What stands for the buffer of requests.
    """

    def __init__(self, dut, inductive: bool = True, stand_in_for_requests: type[ForgetfulFifo] = ForgetfulFifo) -> None:
        self.dut, self.inductive = dut, inductive
        # The real buffers are contained in these. Only of the requests is it relied on how long one may be kept back.
        dut.bursts = VisibleFifo(dut.bursts.shape, dut.bursts.depth)
        dut.requests = stand_in_for_requests(dut.requests.shape, dut.requests.depth, latency=2)
        dut.beats = ForgetfulFifo(dut.beats.shape, dut.beats.depth)
        #: Beats that the memory owes.
        self.owed = Signal(16)
        #: A flush is under way.
        self.flushing = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = self.dut
        self._surroundings(m)
        self._bus(m)
        self._room(m)
        self._flush(m)
        return m

    def state(self, claim, text: str):
        """Claim about the registers."""
        return Assert(claim, text, src_loc_at=1) if self.inductive else []

    def _surroundings(self, m: Module) -> None:
        dut, ar, r = self.dut, self.dut.axi.ar, self.dut.axi.r
        for free in (dut.i.valid, dut.o.ready, dut.flush, ar.ready, r.valid):
            m.d.comb += free.eq(AnySeq(1))
        for payload in (dut.i.payload, r.payload):
            m.d.comb += Cat(payload).eq(AnySeq(len(Cat(payload))))
        # Of one channel of several, addresses are those of its beats.
        bits = exact_log2(dut.config.bus_bytes)
        m.d.comb += Assume((dut.i.payload.beats != 0) & (dut.i.payload.address[:bits] == 0))
        # Any memory, which stays the same.
        m.d.comb += [pages.eq(AnyConst(len(pages))) for pages in (dut.first_page, dut.last_page)]
        # The memory answers only what it was asked for, and a flush lasts until all is idle.
        m.d.sync += [
            self.owed.eq(self.owed + Mux(ar.valid & ar.ready, ar.payload.length + 1, 0) - (r.valid & r.ready)),
            self.flushing.eq(dut.flush & ~dut.idle),
        ]
        m.d.comb += [Assume(~r.valid | (self.owed != 0)), Assume(~self.flushing | dut.flush)]

    def _bus(self, m: Module) -> None:
        """AXI A3.2.1 (a stalled channel keeps what it offers) and A3.4.1 (4 KiB)."""
        dut, ar, burst = self.dut, self.dut.axi.ar, self.dut.axi.ar.payload
        size, longest = dut.config.bus_bytes, dut.config.burst_beats
        size_bits, unit_bits = exact_log2(size), exact_log2(size * longest)
        stalled, before = Signal(), Signal.like(Cat(burst))
        m.d.sync += [stalled.eq(ar.valid & ~ar.ready), before.eq(Cat(burst))]
        with m.If(stalled):
            m.d.comb += Assert(ar.valid & (Cat(burst) == before), "ar changed while stalled")
        with m.If(ar.valid):
            m.d.comb += [
                Assert(burst.length < longest, "a burst is too long"),
                Assert(burst.address[:size_bits] == 0, "a burst does not start at a beat"),
                Assert(burst.address[size_bits:12] + burst.length < 4096 // size, "a burst crosses 4 KiB"),
                Assert(~self._outside(burst.address), "a burst lies outside the memory that may be used"),
            ]
        waiting, offered = Signal(), Signal.like(Cat(dut.o.payload))
        m.d.sync += [waiting.eq(dut.o.valid & ~dut.o.ready & ~dut.flush), offered.eq(Cat(dut.o.payload))]
        with m.If(waiting):
            m.d.comb += Assert(dut.o.valid & (Cat(dut.o.payload) == offered), "a beat on offer changed without a flush")
        m.d.comb += [Assert(dut.axi.r.ready, "r is not always ready"), self.state(dut.held == stalled, "held")]
        for n, planned in enumerate(dut.bursts.entries):
            within = planned.address[size_bits:unit_bits] + planned.length < longest
            with m.If(dut.bursts.holds(n)):
                m.d.comb += self.state((planned.address[:size_bits] == 0) & within, "planned bursts lie in one unit")
                m.d.comb += self.state(
                    planned.outside == self._outside(planned.address), "planned bursts are known to be outside"
                )
        with m.If(dut.request_valid):
            left = dut.end - dut.address[size_bits:unit_bits]
            whole = (dut.address[:size_bits] == 0) & (left > 0) & (left < 1 << len(dut.i.payload.beats))
            m.d.comb += self.state(whole, "the request at hand")
            unit = unit_bits - size_bits
            low, units = dut.end[:unit], (dut.end[unit:] - dut.carried)[: len(dut.end) - unit]
            known = (
                (~dut.carried | dut.end[unit:].any())
                & (dut.even == (low == 0))
                & (dut.no_units == (units == 0))
                & (dut.one_unit == (units == 1))
            )
            m.d.comb += self.state(known, "what is known of the end of the request at hand")
        m.d.comb += self.state(dut.room == (dut.free >= longest), "room for the longest burst")
        with m.If(dut.held):
            m.d.comb += self.state(dut.bursts.o.valid & (dut.free > dut.bursts.o.payload.length), "room for a held burst")

    def _outside(self, address):
        """Whether an address on the bus is not one of the memory that may be used."""
        return (address[PAGE_BITS:] - self.dut.first_page)[: len(self.dut.last_page)] > self.dut.last_page

    def _room(self, m: Module) -> None:
        """What was asked for always fits, so no beat is lost; and room is never forgotten, so nothing waits for ever."""
        dut, ar, r = self.dut, self.dut.axi.ar, self.dut.axi.r
        promised = Signal(20)
        m.d.comb += [
            promised.eq(self.owed + dut.beats.level),
            Assert(promised + Mux(ar.valid, ar.payload.length + 1, 0) <= dut.capacity, "more was asked for than fits"),
            self.state(self.owed == dut.outstanding, "outstanding"),
            self.state(dut.free + promised <= dut.capacity, "free"),
            Assert(dut.o.valid == dut.beats.o.valid, "the output is not that of the buffer"),
        ]
        with m.If(r.valid & ~(r.payload.response[1] | dut.error.valid | dut.flush)):
            kept = dut.beats.i.valid & dut.beats.i.ready & (dut.beats.i.payload.data == r.payload.data)
            m.d.comb += Assert(kept, "a beat was lost")
        with m.Else():
            m.d.comb += Assert(~dut.beats.i.valid, "a beat came from nowhere")

        with m.If(~self.flushing & ~dut.error.valid):
            m.d.comb += Assert(dut.free + promised == dut.capacity, "room was forgotten")
            with m.If(dut.bursts.o.valid & ~dut.bursts.o.payload.outside & ~dut.flush & (promised == 0)):
                m.d.comb += Assert(ar.valid, "a burst waits for nothing")

    def _flush(self, m: Module) -> None:
        dut, ar = self.dut, self.dut.axi.ar
        silent, quiet, failed = Signal(init=1), Signal(), Signal()
        m.d.sync += [
            silent.eq(~ar.valid | ar.ready),
            quiet.eq(dut.flush & ~ar.valid & (self.owed == 0)),
            failed.eq(dut.error.valid & ~dut.flush),
        ]
        with m.If(silent & (dut.flush | dut.error.valid)):
            m.d.comb += Assert(~ar.valid, "a burst was asked for after an error or a flush")
        with m.If(dut.idle):
            m.d.comb += [
                Assert((self.owed == 0) & (dut.beats.level == 0), "idle though beats are to come"),
                Assert(dut.requests.level == 0, "idle though a request is queued"),
            ]
        with m.If(quiet):
            m.d.comb += [
                Assert(dut.idle, "a flush does not end"),
                Assert(~dut.error.valid, "an error outlives a flush"),
            ]
        # What is not asked for is an error as soon as all before it has come, and the request is the one at hand.
        refused = Signal()
        m.d.sync += refused.eq(
            dut.bursts.o.valid & dut.bursts.o.payload.outside & (self.owed == 0) & dut.arriving_valid & ~dut.flush
        )
        with m.If(refused):
            m.d.comb += Assert(dut.error.valid, "a burst that is not asked for is no error")
        with m.If(failed):
            m.d.comb += Assert(dut.error.valid, "an error vanished without a flush")
