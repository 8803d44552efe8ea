"""What the read master owes to its reader: the beats of every request, all of them, in order, and recognised."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.hdl._ast import AnySeq
from amaranth.utils import exact_log2

from tailrace.hdl.axi.signature import from_base
from verification.formal.read_master_rules import ReadMasterRules
from verification.formal.stand_ins import NOTE_BITS, ForgetfulFifo, VisibleFifo


class ReadMasterBeats(ReadMasterRules):
    """Numbers all beats in the order of their requests, and follows any one request by the number of its next beat.

    Parameters
    ----------
    follow : str
        ``asked``: the request is followed until its last burst is asked for; ``received``: until its last beat has come.
    """

    def __init__(self, dut, follow: str, inductive: bool = True) -> None:
        # Whoever asks for bursts does not look into the requests that wait for their beats.
        super().__init__(dut, inductive, ForgetfulFifo if follow == "asked" else VisibleFifo)
        self.follow = follow
        # How many beats were requested, put into bursts, asked for, and received; all start again with a flush.
        self.accepted, self.planned, self.asked, self.received = (Signal(NOTE_BITS) for _ in range(4))

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        self._number(m)
        {"asked": self._follow_asked, "received": self._follow_received}[self.follow](m)
        return m

    def left_at_hand(self):
        """Beats of the request at hand that are not yet put into bursts."""
        dut = self.dut
        unit = dut.address >> exact_log2(dut.config.bus_bytes)
        return (dut.end - unit[: exact_log2(dut.config.burst_beats)])[: len(dut.i.payload.beats)]

    def _number(self, m: Module) -> None:
        """Number all beats in the order of their requests, and say who stands at which number."""
        dut, ar, bursts = self.dut, self.dut.axi.ar, self.dut.bursts
        take, plan, ask = dut.i.valid & dut.i.ready, bursts.i.valid & bursts.i.ready, ar.valid & ar.ready
        with m.If(dut.flush):
            m.d.sync += [number.eq(0) for number in (self.accepted, self.planned, self.asked, self.received)]
        with m.Else():
            m.d.sync += [
                self.accepted.eq(self.accepted + Mux(take, dut.i.payload.beats, 0)),
                self.planned.eq(self.planned + Mux(plan, bursts.i.payload.length + 1, 0)),
                self.asked.eq(self.asked + Mux(ask, ar.payload.length + 1, 0)),
                self.received.eq(self.received + dut.beat),
            ]
        m.d.comb += bursts.note.eq(self.planned)

        claims = [self.asked == (self.received + self.owed)[:NOTE_BITS]]
        number = self.asked
        for n, burst in enumerate(bursts.entries):
            claims.append(~bursts.holds(n) | (bursts.notes[n] == number))
            number = Mux(bursts.holds(n), bursts.notes[n] + burst.length + 1, number)[:NOTE_BITS]
        claims.append(number == self.planned)
        claims.append(self.accepted == (self.planned + Mux(dut.request_valid, self.left_at_hand(), 0))[:NOTE_BITS])
        with m.If(~self.flushing):
            m.d.comb += [self.state(claim, f"numbers, {n}") for n, claim in enumerate(claims)]
        with m.Else():
            left = dut.request_valid | dut.arriving_valid | (dut.requests.level != 0)
            left = left | ((bursts.level != 0) & ~(dut.held | (self.owed != 0)))
            m.d.comb += self.state(~left, "a flush leaves only what the bus must finish")

    def _number_requests(self, m: Module) -> None:
        """Each request begins where the one before it ends, and the last one ends where all do."""
        dut, requests = self.dut, self.dut.requests
        m.d.comb += requests.note.eq(self.accepted)
        m.d.comb += Assert(~(dut.idle & dut.axi.ar.valid), "idle though a burst is asked for")
        number = (self.received + Mux(dut.arriving_valid, dut.arriving.beats, 0))[:NOTE_BITS]
        noted = [entry.request for entry in requests.entries]
        ends = [(note + request.beats)[:NOTE_BITS] for note, request in zip(requests.notes, noted, strict=True)]
        claims = [~requests.holds(n) | (requests.notes[n] == begin) for n, begin in enumerate((number, *ends[:-1]))]
        claims += [(requests.level != n) | (self.accepted == end) for n, end in enumerate((number, *ends))]
        # Numbers wrap, but not within what is in flight.
        in_flight = [
            (dut.arriving_valid, self.received, dut.arriving.beats),
            *((requests.holds(n), requests.notes[n], request.beats) for n, request in enumerate(noted)),
        ]
        claims += [
            ~requests.holds(n) | (entry.single == (entry.request.beats == 1)) for n, entry in enumerate(requests.entries)
        ]
        claims.append(~dut.arriving_valid | (dut.arriving_last == (dut.arriving.beats == 1)))
        claims += [~valid | ((self.accepted - begin)[:NOTE_BITS] >= beats) for valid, begin, beats in in_flight]
        # The side that receives knows a request when its beats can come: it may be kept back for as long as all of it is at hand.
        claims.append(dut.arriving_valid | (self.owed == 0))
        kept_back = requests.young & (requests.level == 1)
        claims.append(~kept_back | (dut.request_valid & (requests.notes[0] == self.planned)))
        with m.If(~self.flushing):
            m.d.comb += [self.state(claim, f"numbers of requests, {n}") for n, claim in enumerate(claims)]
            with m.If(dut.idle):
                m.d.comb += Assert(self.received == self.accepted, "idle though a request has not all of its beats")
        for valid, _, beats in in_flight:
            m.d.comb += self.state(~valid | (beats != 0), "beats are left")

    def _follow_asked(self, m: Module) -> None:
        """Follow any one request: it is asked for from its first beat to its last, without a gap, after those before it."""
        dut, ar = self.dut, self.dut.axi.ar
        following, number = Signal(), Signal(NOTE_BITS)
        address, left = Signal.like(dut.address), Signal.like(dut.i.payload.beats)
        beats = ar.payload.length + 1
        with m.If(dut.flush):
            m.d.sync += following.eq(0)
        with m.Elif(~following & dut.i.valid & dut.i.ready & AnySeq(1)):
            m.d.sync += [
                following.eq(1),
                number.eq(self.accepted),
                address.eq(dut.i.payload.address),
                left.eq(dut.i.payload.beats),
            ]
        with m.Elif(following & ar.valid & ar.ready & (self.asked == number)):
            here = from_base(address, dut.first_page)
            m.d.comb += Assert((ar.payload.address == here) & (beats <= left), "a burst is not the next of its request")
            m.d.sync += [
                number.eq(number + beats),
                address.eq(address + beats * dut.config.bus_bytes),
                left.eq(left - beats),
                following.eq(left != beats),
            ]

        # The bursts of the request that are planned, and what is left of it at hand.
        at, place, rest = number, address, left
        for n, burst in enumerate(dut.bursts.entries):
            count = burst.length + 1
            ours = following & dut.bursts.holds(n) & (dut.bursts.notes[n] == at) & (rest != 0)
            m.d.comb += self.state(
                ~ours | ((burst.address == from_base(place, dut.first_page)) & (count <= rest)), "bursts of the request"
            )
            at = Mux(ours, at + count, at)[: len(number)]
            place = Mux(ours, place + count * dut.config.bus_bytes, place)[: len(address)]
            rest = Mux(ours, rest - count, rest)[: len(left)]
        with m.If(following):
            at_hand = dut.request_valid & (self.planned == at) & (dut.address == place) & (self.left_at_hand() == rest)
            m.d.comb += self.state((rest == 0) | at_hand, "the rest of the request is at hand")
            m.d.comb += self.state(left != 0, "something is left to ask for")

    def _follow_received(self, m: Module) -> None:
        """Follow any one request: its beats are tagged with its kind, the last of them is marked, errors name it."""
        dut, arriving, requests = self.dut, self.dut.arriving, self.dut.requests
        self._number_requests(m)
        with m.If(~self.flushing):
            m.d.comb += Assert(~dut.beat | dut.arriving_valid, "a beat is not recognised")
        following, number, rest = Signal(), Signal(NOTE_BITS), Signal.like(arriving)
        with m.If(dut.flush):
            m.d.sync += following.eq(0)
        with m.Elif(~following & dut.i.valid & dut.i.ready & AnySeq(1)):
            m.d.sync += [following.eq(1), number.eq(self.accepted), rest.eq(dut.i.payload)]
        with m.Elif(following & dut.beat & (self.received == number)):
            m.d.comb += [
                Assert(dut.beat_kind == rest.kind, "a beat has the wrong kind"),
                Assert(dut.beats.i.payload.kind == rest.kind, "a beat is delivered with the wrong kind"),
                Assert(dut.beats.i.payload.last == (rest.beats == 1), "the wrong beat is the last"),
                Assert(arriving.address == rest.address, "a beat has the wrong address"),
                Assert(arriving.command == rest.command, "a beat has the wrong command"),
            ]
            m.d.sync += [
                number.eq(number + 1),
                rest.address.eq(rest.address + dut.config.bus_bytes),
                rest.beats.eq(rest.beats - 1),
                following.eq(rest.beats != 1),
            ]
        found = dut.arriving_valid & (self.received == number) & (Cat(arriving) == Cat(rest))
        for n, entry in enumerate(requests.entries):
            found = found | (requests.holds(n) & (requests.notes[n] == number) & (Cat(entry.request) == Cat(rest)))
        m.d.comb += self.state(~following | found, "the request is among those in flight")
