"""Reads of units of 64 bytes from a memory whose beats are wider."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tailrace.spec.config import Config

from ..fifo import StreamFifo
from ..stream_register import StreamRegister
from .signature import ReadKind, read_beat_layout, read_request_layout

#: Reads of units that may be on their way: more than commands are asked for ahead.
READS_NOTED = 64


class UnitReads(wiring.Component):
    """Stands between those who ask for reads and a reader of wide beats.

    Weights come in whole beats. Commands and vectors come in units of 64 bytes, as many in a beat as `Config.beat_units`, and
    begin at any unit. Their requests are turned into those of the beats concerned, and each unit of these beats that was asked
    for is handed on in a cycle of its own. Which units those are is noted when they are asked for; beats come in the order of
    the requests.

    Latency: 1 cycle for requests, none for beats. Throughput: one request, and one unit or one beat of weights a cycle.

    Parameters
    ----------
    config : Config
        With beats of more than 64 bytes.

    Attributes
    ----------
    i : stream of read requests, in
        `beats` counts units, but for weights.
    request : stream of read requests, out
        `beats` counts beats.
    beats : stream of {data: beat_width, kind, last}, in
        The beats of the requests, in order.
    units : stream of {data: unit_width, kind, last}, out
        Of commands and vectors.
    weights : stream of beat_width bits, out
    """

    #: Cycles from `i` to `request`.
    request_latency = StreamRegister.latency

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(read_request_layout(config.address_width))),
                "request": Out(stream.Signature(read_request_layout(config.address_width))),
                "beats": In(stream.Signature(read_beat_layout(config.beat_width))),
                "units": Out(stream.Signature(read_beat_layout(config.unit_width))),
                "weights": Out(stream.Signature(config.beat_width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        unit_bits, place_bits = exact_log2(config.unit_bytes), exact_log2(config.beat_units)
        # The first unit of a read in its first beat, and the last one in its last beat.
        noted = data.StructLayout({"first": place_bits, "last": place_bits})
        m.submodules.notes = notes = StreamFifo(noted, READS_NOTED)
        m.submodules.requests = requests = StreamRegister(read_request_layout(config.address_width))
        connect(m, requests.o, flipped(self.request))

        asked = self.i.payload
        in_units = asked.kind != ReadKind.WEIGHT
        first = asked.address[unit_bits : unit_bits + place_bits]
        end = first + asked.beats
        m.d.comb += [
            requests.i.payload.eq(asked),
            notes.i.payload.first.eq(first),
            notes.i.payload.last.eq(end - 1),
            notes.i.valid.eq(self.i.valid & in_units & requests.i.ready),
            requests.i.valid.eq(self.i.valid & (~in_units | notes.i.ready)),
            self.i.ready.eq(requests.i.ready & (~in_units | notes.i.ready)),
        ]
        with m.If(in_units):
            m.d.comb += requests.i.payload.beats.eq((end + config.beat_units - 1) >> place_bits)
            m.d.comb += requests.i.payload.address[: unit_bits + place_bits].eq(0)

        beat, note = self.beats.payload, notes.o.payload
        # The unit that is next in a beat, which is that of the read's note at its beginning.
        begins, following = Signal(init=1), Signal(place_bits)
        place = Mux(begins, note.first, following)
        ends, taken = Signal(), Signal()
        m.d.comb += [
            ends.eq(beat.last & (place == note.last)),
            taken.eq(self.units.valid & self.units.ready),
            self.units.payload.data.eq(beat.data.word_select(place, config.unit_width)),
            self.units.payload.kind.eq(beat.kind),
            self.units.payload.last.eq(ends),
            self.weights.payload.eq(beat.data),
            notes.o.ready.eq(taken & ends),
        ]
        with m.If(beat.kind == ReadKind.WEIGHT):
            m.d.comb += [self.weights.valid.eq(self.beats.valid), self.beats.ready.eq(self.weights.ready)]
        with m.Else():
            m.d.comb += [
                self.units.valid.eq(self.beats.valid & notes.o.valid),
                self.beats.ready.eq(taken & (ends | (place == config.beat_units - 1))),
            ]
        with m.If(taken):
            m.d.sync += [begins.eq(ends), following.eq(place + 1)]
        return m
