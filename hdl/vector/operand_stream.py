"""The streamed operand: words from bus beats."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.isa import STREAM_UNIT

from .activation_buffer import FLOAT_BITS, word_layout


class OperandStream(wiring.Component):
    """Take bus beats of float32 apart into words of the activation buffer's width.

    A beat holds ``unit_width / 32 / word_elements`` words. Each part of a stream is padded to units of 64 bytes: after the word
    that is taken with `last`, what is left of its unit is thrown away, a beat in each cycle.

    Latency: none; a beat stays at `i` until its last word is taken. Throughput: one word a cycle; after the last word of a
    part up to three cycles are lost on a 128-bit bus, one on a 256-bit bus.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    i : In(stream.Signature(unit_width))
    o : Out(stream.Signature(word_layout(config)))
    last : In(1)
        The word that is taken in this cycle is the last one of its part.
    idle : Out(1)
        Nothing is left to be thrown away.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(config.unit_width)),
                "o": Out(stream.Signature(word_layout(config))),
                "last": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        word_bits = FLOAT_BITS * config.word_elements
        beat_words = config.unit_width // word_bits
        in_beat = Signal(range(beat_words))
        # The beat's place in its unit.
        unit_beats = STREAM_UNIT // (config.unit_width // FLOAT_BITS)
        beat = Signal(range(max(unit_beats, 2)))
        last_beat = beat == unit_beats - 1
        skip = Signal()
        words = Array(self.i.payload.word_select(n, word_bits) for n in range(beat_words))
        m.d.comb += [
            self.o.valid.eq(self.i.valid & ~skip),
            self.o.payload.eq(words[in_beat]),
            self.idle.eq(~skip),
        ]
        taken = Signal()
        m.d.comb += [
            taken.eq(self.o.valid & self.o.ready),
            self.i.ready.eq(skip | (taken & ((in_beat == beat_words - 1) | self.last))),
        ]
        with m.If(taken):
            m.d.sync += in_beat.eq(in_beat + 1)
            with m.If(self.last):
                m.d.sync += [in_beat.eq(0), skip.eq(~last_beat)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += beat.eq(beat + 1)
            with m.If(last_beat):
                m.d.sync += [beat.eq(0), skip.eq(0)]
        return m
