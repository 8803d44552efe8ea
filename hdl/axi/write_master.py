"""The AXI write master: single beats to memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

from ..fifo import SMALL_DEPTH, StreamFifo
from .signature import PAGE_BITS, AxiWrite, beat_write_layout, bus_error_layout, from_base

#: Beats that may wait for the bus.
BEATS_QUEUED = SMALL_DEPTH
#: Beats that may wait for the bus or for the memory's answer.
WRITES_IN_FLIGHT = 64


class WriteMaster(wiring.Component):
    """Writes beats to memory, each as a burst of its own.

    What the device writes is either short and scattered (keys and values, which take a few bytes of a beat here and there)
    or small beside what it reads (scores, logits). So no bursts are made of neighbouring beats, and the bus never waits for
    one to be completed: a beat goes to `axi.aw` and `axi.w` as soon as the ones before it are gone. The two channels do
    not wait for each other, but for this: data is not offered before its address is.

    A beat waits in a register, with the result of the comparison of its address and the end of memory, and what decides whether
    it leaves comes from registers: all that in one cycle was the slowest path of the core.

    Latency: 2 cycles from `i` to `axi.aw` and `axi.w`. Throughput: one beat a cycle, while at most 62 beats wait for answers;
    64 may.

    Memory: addresses count from the start of page `first_page`, and may lie in pages 0 to `last_page` from there. A beat that
    lies outside waits until all before it are answered, and is dropped then; that is an error like that of a beat that was
    refused.

    Errors: an error response sets `error`, with the first address and its command. Writing goes on until `flush`.

    Flush: while `flush` is 1, beats are taken from `i` and dropped, those that were taken before are written, and `error` is
    0. Hold it until `idle` is 1.

    Parameters
    ----------
    config : Config
        `address_width` and `bus_width` are used.

    Attributes
    ----------
    i : stream of `beat_write_layout`, in
        Addresses are multiples of `bus_bytes`.
    axi : AxiWrite, out
    flush : Signal(), in
    idle : Signal(), out
        Every beat that was taken has been written and acknowledged, or dropped.
    first_page, last_page : Signal(address_width - 12), in
        To be held while anything is under way; all memory, if nothing drives them. The sum of both is a page that there is.
    error : `bus_error_layout`, out
        A beat had an error response, or was dropped: the first such beat, until `flush`.
    beat : Signal(), out
        A beat is transferred in this cycle.
    """

    #: Cycles from `i` to `axi.aw` and `axi.w`.
    latency = 2

    def __init__(self, config: Config) -> None:
        self.config = config
        address_width, bus_width = config.address_width, config.bus_width
        super().__init__(
            {
                "i": In(stream.Signature(beat_write_layout(address_width, bus_width))),
                "axi": Out(AxiWrite(address_width, bus_width)),
                "flush": In(1),
                "first_page": In(address_width - PAGE_BITS),
                "last_page": In(address_width - PAGE_BITS, init=(1 << address_width - PAGE_BITS) - 1),
                "idle": Out(1),
                "error": Out(bus_error_layout(address_width)),
                "beat": Out(1),
            }
        )
        beat = beat_write_layout(address_width, bus_width)
        # Attributes because the formal proofs state what they always satisfy.
        self.addresses = StreamFifo(address_width, BEATS_QUEUED)
        self.beats = StreamFifo(data.StructLayout({"data": bus_width, "strobe": bus_width // 8}), BEATS_QUEUED)
        self.unanswered = StreamFifo(data.StructLayout({"address": address_width, "command": 16}), WRITES_IN_FLIGHT)
        # The beat at hand, and whether it lies outside; whether the queues take one, and whether all before it are answered.
        self.held = Signal(data.StructLayout({"valid": 1, "outside": 1, "beat": beat}), init={"valid": 0})
        self.room, self.nothing = Signal(), Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.addresses = addresses = self.addresses
        m.submodules.beats = beats = self.beats
        m.submodules.unanswered = unanswered = self.unanswered
        i, aw, w, b = self.i, self.axi.aw, self.axi.w, self.axi.b
        beat, outside = self.held.beat, self.held.outside
        leaves = Signal()
        m.d.comb += [
            leaves.eq(Mux(outside, self.nothing, self.room)),
            i.ready.eq(~self.held.valid | leaves | self.flush),
        ]
        with m.If(~self.held.valid | leaves):
            m.d.sync += [
                self.held.valid.eq(i.valid & ~self.flush),
                self.held.outside.eq(i.payload.address[PAGE_BITS:] > self.last_page),
                beat.eq(i.payload),
            ]

        # All three take a beat, or none does. One may enter while they are looked at.
        takes = self.held.valid & ~outside & self.room
        queues = (addresses, beats, unanswered)
        m.d.sync += [
            self.room.eq(Cat(queue.level < queue.depth - 1 for queue in queues).all()),
            self.nothing.eq((unanswered.level == 0) & ~takes),
        ]
        m.d.comb += [
            *(queue.i.valid.eq(takes) for queue in queues),
            addresses.i.payload.eq(from_base(beat.address, self.first_page)),
            beats.i.payload.data.eq(beat.data),
            beats.i.payload.strobe.eq(beat.strobe),
            unanswered.i.payload.address.eq(beat.address),
            unanswered.i.payload.command.eq(beat.command),
        ]

        # Both queues take beats together, so the one that is fuller is behind.
        leads = beats.level < addresses.level
        m.d.comb += [
            aw.valid.eq(addresses.o.valid),
            aw.payload.address.eq(addresses.o.payload),
            aw.payload.length.eq(0),
            addresses.o.ready.eq(aw.ready),
            w.valid.eq(beats.o.valid & ~leads),
            w.payload.data.eq(beats.o.payload.data),
            w.payload.strobe.eq(beats.o.payload.strobe),
            w.payload.last.eq(1),
            beats.o.ready.eq(w.ready & ~leads),
            self.beat.eq(w.valid & w.ready),
        ]

        # The memory answers in the order of the bursts, because all have the same ID.
        m.d.comb += [
            b.ready.eq(1),
            unanswered.o.ready.eq(b.valid),
            self.idle.eq((unanswered.level == 0) & ~self.held.valid),
        ]
        with m.If(self.flush):
            m.d.sync += self.error.valid.eq(0)
        with m.Elif(b.valid & b.payload.response[1] & ~self.error.valid):
            m.d.sync += [
                self.error.valid.eq(1),
                self.error.address.eq(unanswered.o.payload.address),
                self.error.command.eq(unanswered.o.payload.command),
            ]
        with m.Elif(self.held.valid & outside & self.nothing & ~self.error.valid):
            m.d.sync += [
                self.error.valid.eq(1),
                self.error.address.eq(beat.address),
                self.error.command.eq(beat.command),
            ]
        return m
