"""The AXI4 write master: packs float32 values into beats and bursts."""

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

from ..fifo import StreamFifo
from .signature import AxiWrite, address_layout, write_data_layout, write_request_layout

#: Longest burst. 16 beats of 64 bytes are a quarter of the 4 KiB that a burst must not cross.
BURST_BEATS = 16
#: Beats that are buffered: one burst leaves while the next is filled.
BUFFER_BEATS = 2 * BURST_BEATS
#: Requests that wait for the one whose values are being taken.
REQUESTS_QUEUED = 4
#: Bursts that are complete and not yet on `axi.aw`.
BURSTS_QUEUED = 4
#: Bursts that are not yet acknowledged; a distributed RAM of the smallest FPGAs has this many rows.
BURSTS_IN_FLIGHT = 16


class WriteMaster(wiring.Component):
    """Writes streams of float32 values to memory.

    Each request takes its number of values from `i`, in the order of the requests. Values are packed into beats, the last of
    which has a strobe for exactly the bytes that are written. A request is split into incrementing bursts that end where the
    address is a multiple of `BURST_BEATS` beats, so none crosses 4 KiB. A burst goes to `axi.aw` when all of its beats are
    buffered: whatever happens upstream, it completes. Its beats do not wait for `axi.aw.ready`.

    Latency: the first value of a request that is taken in cycle t is taken in cycle t+2 at the earliest. A burst whose last
    value is taken in cycle t is on `axi.aw` in cycle t+3, and so is its first beat on `axi.w`, if nothing else is before it.
    Throughput: one value and one beat a cycle, without a gap between requests.

    Errors: an error response sets `error`, with the first address and the command of its burst. Writing goes on until `flush`.

    Flush: while `flush` is 1, requests and values are taken and dropped, bursts that are not yet on `axi.aw` are forgotten,
    those that are there are completed, and `error` is 0. Hold it until `idle` is 1.

    Parameters
    ----------
    config : Config
        `address_width` and `bus_width` are used.

    Attributes
    ----------
    request : stream of `write_request_layout`, in
    i : stream of 32 bits, in
        The bits of a float32.
    axi : AxiWrite, out
    flush : Signal(), in
    idle : Signal(), out
        No request is queued, and every burst has been acknowledged.
    error : Signal(), out
        A burst had an error response; stays 1 until `flush`.
    error_address : Signal(address_width), out
        Start of the first such burst.
    error_command : Signal(16), out
        Command of its request.
    beat : Signal(), out
        A beat is transferred in this cycle.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        address_width, bus_width = config.address_width, config.bus_width
        super().__init__(
            {
                "request": In(stream.Signature(write_request_layout(address_width))),
                "i": In(stream.Signature(32)),
                "axi": Out(AxiWrite(address_width, bus_width)),
                "flush": In(1),
                "idle": Out(1),
                "error": Out(1),
                "error_address": Out(address_width),
                "error_command": Out(16),
                "beat": Out(1),
            }
        )
        burst_layout = data.StructLayout({"address": address_width, "length": 8, "command": 16})
        # State, as attributes because the formal proofs state what it always satisfies.
        self.requests = StreamFifo(write_request_layout(address_width), REQUESTS_QUEUED)
        self.current = Signal(write_request_layout(address_width))
        self.current_valid = Signal()
        self.word = Signal(range(bus_width // 32))
        self.packed = Signal(write_data_layout(bus_width), init={"last": 1})
        self.packed_valid = Signal()
        self.packed_moves = Signal()
        self.burst = Signal(burst_layout)
        self.beats = StreamFifo(write_data_layout(bus_width), BUFFER_BEATS)
        self.bursts = StreamFifo(burst_layout, BURSTS_QUEUED)
        self.aw = Signal(address_layout(address_width))
        self.aw_valid = Signal()
        #: Bursts that are or were on `axi.aw` and whose last beat is not yet transferred.
        self.promised = Signal(range(BURSTS_IN_FLIGHT + 1))
        self.unanswered = StreamFifo(data.StructLayout({"address": address_width, "command": 16}), BURSTS_IN_FLIGHT)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._pack(m)
        self._buffer(m)
        self._send(m)
        self._conclude(m)
        return m

    def _pack(self, m: Module) -> None:
        """Take the values of the request at hand and pack them into beats."""
        current, packed = self.current, self.packed
        m.submodules.requests = ResetInserter(self.flush)(self.requests)
        final, complete, ready, take = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.requests.i.payload.eq(self.request.payload),
            self.requests.i.valid.eq(self.request.valid),
            self.request.ready.eq(self.requests.i.ready | self.flush),
            final.eq(current.entries == 1),
            complete.eq(final | self.word.all()),
            ready.eq(self.current_valid & (~self.packed_valid | self.packed_moves)),
            take.eq(self.i.valid & ready),
            self.i.ready.eq(ready | self.flush),
            self.requests.o.ready.eq(~self.current_valid | (take & final)),
        ]
        byte_bits = (self.config.bus_bytes - 1).bit_length()
        beat_address = current.address[byte_bits:]
        with m.If(take):
            with m.If(self.word == 0):
                m.d.sync += [packed.data.eq(self.i.payload), packed.strobe.eq(0xF)]
            with m.Else():
                m.d.sync += [
                    packed.data.word_select(self.word, 32).eq(self.i.payload),
                    packed.strobe.word_select(self.word, 4).eq(0xF),
                ]
            m.d.sync += [
                self.word.eq(Mux(complete, 0, self.word + 1)),
                current.entries.eq(current.entries - 1),
                self.packed_valid.eq(complete),
            ]
            with m.If(complete):
                m.d.sync += [
                    packed.last.eq(final | beat_address[: (BURST_BEATS - 1).bit_length()].all()),
                    beat_address.eq(beat_address + 1),
                ]
                # The beat before this one was the last of its burst, or there was none.
                with m.If(packed.last):
                    m.d.sync += [
                        self.burst.address.eq(current.address),
                        self.burst.length.eq(0),
                        self.burst.command.eq(current.command),
                    ]
                with m.Else():
                    m.d.sync += self.burst.length.eq(self.burst.length + 1)
        with m.Elif(self.packed_moves):
            m.d.sync += self.packed_valid.eq(0)

        with m.If(self.requests.o.valid & self.requests.o.ready):
            m.d.sync += [current.eq(self.requests.o.payload), self.current_valid.eq(1)]
        with m.Elif(take & final):
            m.d.sync += self.current_valid.eq(0)
        with m.If(self.flush):
            m.d.sync += [self.current_valid.eq(0), self.packed_valid.eq(0), packed.last.eq(1), self.word.eq(0)]

    def _buffer(self, m: Module) -> None:
        """Buffer beats, and note each burst when its last beat is buffered."""
        beats, bursts = self.beats, self.bursts
        m.submodules.beats = ResetInserter(self.flush & (self.promised == 0))(beats)
        m.submodules.bursts = ResetInserter(self.flush)(bursts)
        m.d.comb += [
            self.packed_moves.eq(self.packed_valid & beats.i.ready & (bursts.i.ready | ~self.packed.last)),
            beats.i.valid.eq(self.packed_moves),
            beats.i.payload.eq(self.packed),
            bursts.i.valid.eq(self.packed_moves & self.packed.last),
            bursts.i.payload.eq(self.burst),
        ]

    def _send(self, m: Module) -> None:
        """Put bursts on `axi.aw`, and from then on their beats on `axi.w`."""
        aw, w, bursts = self.axi.aw, self.axi.w, self.bursts
        m.submodules.unanswered = self.unanswered
        promise, ready = Signal(), Signal()
        m.d.comb += [
            aw.valid.eq(self.aw_valid),
            aw.payload.eq(self.aw),
            ready.eq((~self.aw_valid | aw.ready) & self.unanswered.i.ready & ~self.flush),
            bursts.o.ready.eq(ready),
            promise.eq(bursts.o.valid & ready),
            self.unanswered.i.valid.eq(promise),
            self.unanswered.i.payload.address.eq(bursts.o.payload.address),
            self.unanswered.i.payload.command.eq(bursts.o.payload.command),
            w.valid.eq(self.beats.o.valid & (self.promised != 0)),
            w.payload.eq(self.beats.o.payload),
            self.beats.o.ready.eq(w.ready & (self.promised != 0)),
            self.beat.eq(w.valid & w.ready),
        ]
        with m.If(promise):
            m.d.sync += [
                self.aw_valid.eq(1),
                self.aw.address.eq(bursts.o.payload.address),
                self.aw.length.eq(bursts.o.payload.length),
            ]
        with m.Elif(aw.ready):
            m.d.sync += self.aw_valid.eq(0)
        m.d.sync += self.promised.eq(self.promised + promise - (self.beat & w.payload.last))

    def _conclude(self, m: Module) -> None:
        """Take the memory's answers, which come in the order of the bursts."""
        b, burst = self.axi.b, self.unanswered.o
        m.d.comb += [
            b.ready.eq(1),
            burst.ready.eq(b.valid),
            self.idle.eq(~(self.requests.o.valid | self.current_valid | self.packed_valid | self.bursts.o.valid | burst.valid)),
        ]
        with m.If(self.flush):
            m.d.sync += self.error.eq(0)
        with m.Elif(b.valid & b.payload.response[1] & ~self.error):
            m.d.sync += [
                self.error.eq(1),
                self.error_address.eq(burst.payload.address),
                self.error_command.eq(burst.payload.command),
            ]
