"""What the write master owes to the bus, and to whoever gave it a beat."""

from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Signal, Value
from amaranth.hdl._ast import AnyConst, AnySeq

from tailrace.hdl.axi.signature import PAGE_BITS, from_base
from tailrace.hdl.axi.write_master import WriteMaster
from verification.formal.stand_ins import NUMBER_BITS, WatchedFifo


class WriteMasterRules(Elaboratable):
    """A write master between a free source of beats and a free memory, and the rules for it.

    Beats are numbered as they are taken, and each queue numbers what it holds. So the beat that is on `aw`, the one that is on `w`
    and the one that is answered are known by their number. The prover chooses one number, to compare what goes out under it with what
    came in under it.

    Parameters
    ----------
    dut : WriteMaster
    inductive : bool
        Also claim what the registers always satisfy, which induction needs.
    """

    def __init__(self, dut: WriteMaster, inductive: bool = True) -> None:
        self.dut, self.inductive = dut, inductive
        self.chosen = Signal(NUMBER_BITS)
        self.waiting, self.offer = Signal(), Signal(dut.i.payload.shape())
        # The real buffers are contained in these. Only of what waits for an answer is it relied on how long it may be kept back.
        for name, latency in (("addresses", None), ("beats", None), ("unanswered", 2)):
            real = getattr(dut, name)
            setattr(dut, name, WatchedFifo(real.shape, real.depth, latency, watch=self.chosen))

    def state(self, claim: Value, text: str) -> object:
        """Claim about the registers."""
        return Assert(claim, text, src_loc_at=1) if self.inductive else []

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        axi = dut.axi
        for free in (dut.i.valid, dut.flush, axi.aw.ready, axi.w.ready, axi.b.valid):
            m.d.comb += free.eq(AnySeq(1))
        for payload in (dut.i.payload, axi.b.payload):
            m.d.comb += Cat(payload).eq(AnySeq(len(Cat(payload))))
        # Any memory, which stays the same.
        m.d.comb += [pages.eq(AnyConst(len(pages))) for pages in (dut.first_page, dut.last_page)]
        self._steady(m)
        self._bursts(m)
        self._numbers(m)
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
        """AXI A3.4.1: a burst has as many beats as it announces, and the last one is marked: one. So none crosses 4 KiB."""
        aw, w = self.dut.axi.aw, self.dut.axi.w
        m.d.comb += [
            Assert(~aw.valid | (aw.payload.length == 0), "a burst of more than one beat"),
            Assert(~w.valid | w.payload.last, "a beat that is not its burst's last"),
        ]

    def _numbers(self, m: Module) -> None:
        """Each beat that is taken is written once, where it belongs, and its answer is recognised."""
        dut, aw, w, b = self.dut, self.dut.axi.aw, self.dut.axi.w, self.dut.axi.b
        # Beats taken into the queues, put on either channel, and answered.
        taken, asked, sent, answered = (Signal(NUMBER_BITS, name=name) for name in ("taken", "asked", "sent", "answered"))
        queues = ((dut.addresses, asked), (dut.beats, sent), (dut.unanswered, answered))
        # The beat at hand: the last that came, until the queues have it, or nothing is before it and it lies outside.
        waiting, offer = self.waiting, self.offer
        outside = offer.address[PAGE_BITS:] > dut.last_page
        takes = dut.addresses.i.valid & dut.addresses.i.ready
        drops = waiting & outside & dut.nothing
        comes = dut.i.valid & dut.i.ready & ~dut.flush
        m.d.sync += waiting.eq(comes | (waiting & ~takes & ~drops))
        with m.If(comes):
            m.d.sync += offer.eq(dut.i.payload)
        m.d.comb += [
            Assert(~takes | (waiting & ~outside), "a wrong address, or one outside the memory that may be used"),
            Assert(~comes | ~waiting | takes | drops, "a beat is lost"),
            Assert(~drops | (answered == taken), "a beat is dropped before all before it are answered"),
            self.state(~dut.room | Cat(queue.level < queue.depth for queue, _ in queues).all(), "room"),
            self.state(~dut.nothing | (answered == taken), "nothing is unanswered"),
        ]
        m.d.sync += [
            taken.eq(taken + takes),
            asked.eq(asked + (aw.valid & aw.ready)),
            sent.eq(sent + (w.valid & w.ready)),
            answered.eq(answered + b.valid),
        ]

        def unanswered(number: Value) -> Value:
            return (number - answered)[:NUMBER_BITS]

        under_way = (unanswered(taken) != 0) | waiting
        m.d.comb += [
            # The memory answers bursts that it has in full.
            Assume(~b.valid | ((unanswered(asked) != 0) & (unanswered(sent) != 0))),
            Assert(~aw.valid | (dut.addresses.first == asked), "an address lost, invented or out of order"),
            Assert(~w.valid | (dut.beats.first == sent), "a beat lost, invented or out of order"),
            Assert(~w.valid | (unanswered(sent) <= unanswered(asked)), "a beat before its address"),
            Assert(~b.valid | (dut.unanswered.o.valid & (dut.unanswered.first == answered)), "an answer is not recognised"),
            Assert(dut.idle != under_way, "idle though something is on its way, or not idle though nothing is"),
        ]
        m.d.comb += [
            self.state(waiting == dut.held.valid, "the beat at hand"),
            self.state(~waiting | (Cat(dut.held.beat) == Cat(offer)), "the beat at hand is the last that came"),
            self.state(~waiting | (dut.held.outside == outside), "where the beat at hand lies"),
        ]
        for queue, given in queues:
            m.d.comb += self.state((queue.first == given) & (queue.last == taken), "numbers")
        kept_back = dut.unanswered.young & (dut.unanswered.level == 1)
        m.d.comb += [
            self.state(unanswered(asked) <= unanswered(taken), "no more asked for than taken"),
            self.state(unanswered(sent) <= unanswered(taken), "no more sent than taken"),
            self.state(~kept_back | (unanswered(asked) == 0), "what may be kept back is not asked for"),
        ]
        self._outside(m, drops & ~dut.flush)
        self._contents(m, taken, takes, asked, sent, answered)

    def _inside(self, address: Value) -> Value:
        """Whether an address on the bus is one of the memory that may be used."""
        dut = self.dut
        return (address[PAGE_BITS:] - dut.first_page)[: len(dut.last_page)] <= dut.last_page

    def _outside(self, m: Module, drops: Value) -> None:
        """A beat outside the memory that may be used is not written, and is an error, after all beats before it."""
        dut = self.dut
        m.d.comb += self.state(~dut.addresses.holds | self._inside(dut.addresses.kept), "addresses inside")
        dropped, address, command = Signal(), Signal.like(dut.error.address), Signal.like(dut.error.command)
        m.d.sync += [dropped.eq(drops & ~dut.error.valid), address.eq(self.offer.address), command.eq(self.offer.command)]
        with m.If(dropped):
            m.d.comb += [
                Assert(dut.error.valid, "an error is not reported"),
                Assert(dut.error.address == address, "the error has a wrong address"),
                Assert(dut.error.command == command, "the error has a wrong command"),
            ]

    def _contents(self, m: Module, taken: Signal, takes: Value, asked: Signal, sent: Signal, answered: Signal) -> None:
        """What goes out under a number is what came in under it."""
        dut, aw, w, b = self.dut, self.dut.axi.aw, self.dut.axi.w, self.dut.axi.b
        chosen, came = self.chosen, Signal(dut.i.payload.shape())
        m.d.comb += chosen.eq(AnyConst(NUMBER_BITS))
        with m.If(takes & (taken == chosen)):
            m.d.sync += came.eq(self.offer)
        place = from_base(came.address, dut.first_page)
        right = (aw.payload.address == place) & self._inside(aw.payload.address)
        m.d.comb += [
            Assert(~aw.valid | (asked != chosen) | right, "a wrong address, or one outside the memory that may be used"),
            Assert(~w.valid | (sent != chosen) | (w.payload.data == came.data), "wrong data"),
            Assert(~w.valid | (sent != chosen) | (w.payload.strobe == came.strobe), "wrong strobes"),
        ]
        failing, flushed = Signal(), Signal()
        failed = b.valid & b.payload.response[1] & ~dut.error.valid & ~dut.flush
        m.d.sync += [failing.eq(failed & (answered == chosen)), flushed.eq(dut.flush)]
        failed_address, failed_command = Signal.like(came.address), Signal.like(came.command)
        m.d.sync += [failed_address.eq(came.address), failed_command.eq(came.command)]
        with m.If(failing):
            m.d.comb += [
                Assert(dut.error.valid, "an error is not reported"),
                Assert(dut.error.address == failed_address, "the error has a wrong address"),
                Assert(dut.error.command == failed_command, "the error has a wrong command"),
            ]
        m.d.comb += Assert(~flushed | ~dut.error.valid, "an error outlives a flush")
        for queue, same in (
            (dut.addresses, lambda entry: entry == place),
            (dut.beats, lambda entry: (entry.data == came.data) & (entry.strobe == came.strobe)),
            (dut.unanswered, lambda entry: (entry.address == came.address) & (entry.command == came.command)),
        ):
            m.d.comb += self.state(~queue.holds | same(queue.kept), "contents")
