"""The AXI4 read master: turns read requests into bursts, and the answers into one stream of tagged beats."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.config import Config

from ..fifo import StreamFifo
from .signature import PAGE_BITS, AxiRead, ReadKind, bus_error_layout, from_base, read_beat_layout, read_request_layout

#: Requests that may be in flight. Cached values are read with one request for each group of rows, which is a single beat as
#: long as the context is short: there must be as many of them as the memory has cycles of latency.
REQUESTS_IN_FLIGHT = 128


class ReadMaster(wiring.Component):
    """Reads memory as one uninterrupted stream.

    A request is split into incrementing bursts that end where the address is a multiple of ``burst_beats`` beats, so that only
    the first and the last burst of a request can be shorter, and none crosses 4 KiB. Requests follow one another without a gap.
    A burst is asked for only when the read FIFO has room for the longest one, so `axi.r.ready` is always 1 and a slow reader
    never holds up the memory.

    Latency: a request taken in cycle t has its first burst on `axi.ar` in cycle t+2; a beat that arrives in cycle t is on `o`
    in cycle t+2. Throughput: one burst and one beat a cycle. From a memory that answers every request in order at one beat
    a cycle, the first one `L` cycles after its burst's handshake, `o` receives a beat every cycle if
    ``L < read_fifo_beats - burst_beats`` (and requests are long enough that `requests_in_flight` of them cover `L`).

    Memory: requests count addresses from the start of page `first_page`, and may use pages 0 to `last_page` from there. A burst
    lies in one page, so adding a page to it breaks no rule of the bus. One that lies outside is not asked for. When all beats
    before it have come, it is an error, at the address of its first beat.

    Errors: a beat with an error response sets `error`, with the beat's address and command. Neither this beat nor any later one
    reaches `o`, those before it do. Nothing more is asked for, until `flush`.

    Flush: while `flush` is 1, requests are taken and dropped, those not yet asked for are forgotten, a burst that is already
    on `axi.ar` stays until it is accepted, beats on their way are awaited and dropped, and `error` is 0. Hold it until `idle`
    is 1. A beat that `o` offers when `flush` begins is withdrawn.

    Parameters
    ----------
    config : Config
        `address_width`, `bus_width`, `burst_beats` and `read_fifo_beats` are used.
    requests_in_flight : int
        Requests that may wait for their beats behind the one whose beats arrive, at least 1.

    Attributes
    ----------
    i : stream of `read_request_layout`, in
    o : stream of `read_beat_layout`, out
    axi : AxiRead, out
    flush : Signal(), in
    idle : Signal(), out
        Nothing is queued, on its way, or buffered.
    first_page, last_page : Signal(address_width - 12), in
        To be held while anything is under way; all memory, if nothing drives them. The sum of both is a page that there is.
    error : `bus_error_layout`, out
        A beat had an error response, or was not asked for: the first such beat, until `flush`.
    level : Signal(16), out
        Beats that wait at `o`.
    beat : Signal(), out
        A beat arrives in this cycle.
    beat_kind : Signal(ReadKind), out
        What it is for; during a flush, what the last one before it was for.
    waiting : Signal(), out
        No beat arrives, though something was asked for.
    blocked : Signal(), out
        No beat arrives and nothing was asked for, because the FIFO has no room for a burst. At most one of `beat`,
        `waiting` and `blocked` is 1.

    Raises
    ------
    ValueError
        If `requests_in_flight` is not a positive whole number.
    """

    #: Cycles from a request to its first burst on `axi.ar`, and from a beat's arrival to `o`.
    request_latency, beat_latency = 2, 2

    def __init__(self, config: Config, requests_in_flight: int = REQUESTS_IN_FLIGHT) -> None:
        if not isinstance(requests_in_flight, int) or requests_in_flight < 1:
            raise ValueError(f"requests_in_flight must be a positive whole number, not {requests_in_flight!r}")
        self.config = config
        address_width, bus_width = config.address_width, config.bus_width
        super().__init__(
            {
                "i": In(stream.Signature(read_request_layout(address_width))),
                "o": Out(stream.Signature(read_beat_layout(bus_width))),
                "axi": Out(AxiRead(address_width, bus_width)),
                "flush": In(1),
                "first_page": In(address_width - PAGE_BITS),
                "last_page": In(address_width - PAGE_BITS, init=(1 << address_width - PAGE_BITS) - 1),
                "idle": Out(1),
                "error": Out(bus_error_layout(address_width)),
                "level": Out(16),
                "beat": Out(1),
                "beat_kind": Out(ReadKind),
                "waiting": Out(1),
                "blocked": Out(1),
            }
        )
        #: Beats that the FIFO holds: its memory has `read_fifo_beats` rows, its output register holds one more.
        self.capacity = config.read_fifo_beats + 1
        # State, as attributes because the formal proofs state what it always satisfies.
        #: Where the next burst of the request at hand begins.
        self.address = Signal(address_width)
        #: Beats from the start of the unit of `burst_beats` beats that `address` lies in to the request's end.
        self.end = Signal(len(self.i.payload.beats) + 1)
        self.request_valid = Signal()
        # What says whether the request ends in that unit: `end` is too long to be looked at, and much waits for that.
        #: Units in `end` but for one that is carried: none, or one.
        self.no_units = Signal()
        self.one_unit = Signal()
        #: A unit came from adding up the beats below a unit.
        self.carried = Signal()
        #: There are no beats below a unit.
        self.even = Signal()
        self.bursts = StreamFifo(planned_layout(address_width), 2)
        self.held = Signal()
        self.free = Signal(range(self.capacity + 1), init=self.capacity)
        #: There is room for the longest burst, in a register of its own: no burst's length is compared in the cycle that asks.
        self.room = Signal(init=1)
        self.outstanding = Signal(range(self.capacity + 1))
        self.requests = StreamFifo(noted_layout(address_width), requests_in_flight)
        self.arriving = Signal(read_request_layout(address_width))
        self.arriving_valid = Signal()
        #: One beat is left of it, in a register of its own: much waits for what comes with a request's last beat.
        self.arriving_last = Signal()
        self.beats = StreamFifo(read_beat_layout(bus_width), self.capacity)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._plan(m)
        self._ask(m)
        self._receive(m)
        self._forget(m)
        return m

    def _plan(self, m: Module) -> None:
        """Split the request at hand into bursts, one a cycle."""
        config, address, end, bursts = self.config, self.address, self.end, self.bursts
        byte_bits = exact_log2(config.bus_bytes)
        beat_bits = exact_log2(config.burst_beats)
        unit_bits = byte_bits + beat_bits

        final = Signal()
        m.d.comb += [
            # At most `burst_beats` are left.
            final.eq(Mux(self.carried, self.no_units & self.even, self.no_units | (self.one_unit & self.even))),
            bursts.i.valid.eq(self.request_valid & ~self.flush),
            bursts.i.payload.address.eq(from_base(address, self.first_page)),
            bursts.i.payload.outside.eq(address[PAGE_BITS:] > self.last_page),
            # Modulo `burst_beats`: to the end of the unit, or that of the request.
            bursts.i.payload.length.eq((Mux(final, end[:beat_bits], 0) + ~address[byte_bits:unit_bits])[:beat_bits]),
        ]
        planned = bursts.i.valid & bursts.i.ready
        with m.If(planned):
            m.d.sync += [
                address.eq(Cat(Const(0, unit_bits), address[unit_bits:] + 1)),
                end[beat_bits:].eq(end[beat_bits:] - 1),
                self.no_units.eq(end[beat_bits:] == 1),
                self.one_unit.eq(end[beat_bits:] == 2),
                self.carried.eq(0),
            ]
        # Each request is noted twice: here to ask for it, and in `requests` to recognise its beats.
        take = Signal()
        m.d.comb += [
            take.eq((~self.request_valid | (planned & final)) & self.requests.i.ready),
            self.i.ready.eq(take | self.flush),
            self.requests.i.valid.eq(self.i.valid & take & ~self.flush),
            self.requests.i.payload.request.eq(self.i.payload),
            self.requests.i.payload.single.eq(self.i.payload.beats == 1),
        ]
        with m.If(self.flush):
            m.d.sync += self.request_valid.eq(0)
        with m.Elif(self.requests.i.valid):
            beats, begin, low = self.i.payload.beats, self.i.payload.address[byte_bits:unit_bits], Signal(beat_bits + 1)
            m.d.comb += low.eq(beats[:beat_bits] + begin)
            m.d.sync += [
                self.request_valid.eq(1),
                address.eq(self.i.payload.address),
                end.eq(beats + begin),
                self.no_units.eq(beats[beat_bits:] == 0),
                self.one_unit.eq(beats[beat_bits:] == 1),
                self.even.eq(low[:beat_bits] == 0),
                self.carried.eq(low[beat_bits]),
            ]
        with m.Elif(planned & final):
            m.d.sync += self.request_valid.eq(0)

    def _ask(self, m: Module) -> None:
        """Ask for planned bursts as soon as the FIFO has room for them."""
        ar, burst = self.axi.ar, self.bursts.o
        length = burst.payload.length
        asked, given = Signal(), Signal()
        # What is free, and what is on its way, when the burst has been asked for, with a beat that goes or comes in the same
        # cycle: the lowest bits of both operands make its carry. Whether the burst is asked for is known late: it only chooses.
        free_after, outstanding_after = Signal(len(self.free) + 1), Signal(len(self.outstanding) + 1)
        free = Signal.like(self.free)
        asked_beats = Cat(length, Const(0, max(len(free) - len(length), 1)))
        m.d.comb += [
            given.eq(self.beats.o.valid & self.beats.o.ready),
            free_after.eq(Cat(given, self.free) + Cat(given, ~asked_beats)),
            outstanding_after.eq(Cat(~self.beat, self.outstanding) + Cat(~self.beat, length)),
            free.eq(Mux(asked, free_after[1:], self.free + given)),
            # Room only grows while a burst waits, so `ar.valid` never falls before `ar.ready`.
            ar.valid.eq(burst.valid & self.room & ~burst.payload.outside & (self.held | ~(self.flush | self.error.valid))),
            ar.payload.address.eq(burst.payload.address),
            ar.payload.length.eq(length),
            asked.eq(ar.valid & ar.ready),
            burst.ready.eq(asked),
        ]
        m.d.sync += [
            self.held.eq(ar.valid & ~ar.ready),
            self.free.eq(free),
            self.room.eq(free[exact_log2(self.config.burst_beats) :].any()),
            self.outstanding.eq(Mux(asked, outstanding_after[1:], self.outstanding - self.beat)),
        ]
        m.d.comb += [
            self.waiting.eq((ar.valid | (self.outstanding != 0)) & ~self.beat),
            self.blocked.eq(burst.valid & ~self.room & ~self.error.valid & (self.outstanding == 0)),
        ]

    def _receive(self, m: Module) -> None:
        """Tag each beat that arrives with what it is for, and buffer it."""
        r, arriving = self.axi.r, self.arriving
        failed, refused = Signal(), Signal()
        m.d.comb += [
            r.ready.eq(1),
            self.beat.eq(r.valid),
            self.beat_kind.eq(arriving.kind),
            failed.eq(self.beat & r.payload.response[1]),
            # All that was asked for has come, so `arriving` is what the burst belongs to, and where it begins.
            refused.eq(self.bursts.o.valid & self.bursts.o.payload.outside & (self.outstanding == 0) & self.arriving_valid),
            self.beats.i.valid.eq(self.beat & ~failed & ~self.error.valid & ~self.flush),
            self.beats.i.payload.data.eq(r.payload.data),
            self.beats.i.payload.kind.eq(arriving.kind),
            self.beats.i.payload.last.eq(self.arriving_last),
        ]
        wiring.connect(m, self.beats.o, wiring.flipped(self.o))

        byte_bits = exact_log2(self.config.bus_bytes)
        with m.If(self.beat):
            m.d.sync += [
                arriving.address[byte_bits:].eq(arriving.address[byte_bits:] + 1),
                arriving.beats.eq(arriving.beats - 1),
                self.arriving_last.eq(arriving.beats == 2),
            ]
        done = self.beat & self.arriving_last
        m.d.comb += self.requests.o.ready.eq(~self.arriving_valid | done)
        with m.If(self.requests.o.valid & self.requests.o.ready):
            m.d.sync += [
                arriving.eq(self.requests.o.payload.request),
                self.arriving_last.eq(self.requests.o.payload.single),
                self.arriving_valid.eq(1),
            ]
        with m.Elif(done):
            m.d.sync += self.arriving_valid.eq(0)

        with m.If(self.flush):
            m.d.sync += self.error.valid.eq(0)
        with m.Elif((failed | refused) & ~self.error.valid):
            m.d.sync += [
                self.error.valid.eq(1),
                self.error.address.eq(arriving.address),
                self.error.command.eq(arriving.command),
            ]

    def _forget(self, m: Module) -> None:
        """Empty everything on `flush`, but for what the bus must still finish."""
        quiet = Signal()
        m.submodules.bursts = ResetInserter(self.flush & ~self.held)(self.bursts)
        m.submodules.requests = ResetInserter(self.flush)(self.requests)
        m.submodules.beats = ResetInserter(self.flush)(self.beats)
        m.d.comb += [
            quiet.eq(~self.held & (self.outstanding == 0)),
            self.level.eq(self.beats.level),
            # By its level: a request is known there before the buffer offers it.
            self.idle.eq(quiet & ~self.arriving_valid & (self.requests.level == 0) & (self.beats.level == 0)),
        ]
        with m.If(self.flush):
            m.d.sync += self.arriving_valid.eq(0)
            with m.If(quiet):
                m.d.sync += [self.free.eq(self.capacity), self.room.eq(1)]


def noted_layout(address_width: int) -> data.StructLayout:
    """A request, and whether it is a single beat: behind block RAM there is no time to look at how many it has."""
    return data.StructLayout({"request": read_request_layout(address_width), "single": 1})


def planned_layout(address_width: int) -> data.StructLayout:
    """A burst on the bus: its address, its beats less one, and whether it is outside the memory that may be used."""
    return data.StructLayout({"address": address_width, "length": 8, "outside": 1})
