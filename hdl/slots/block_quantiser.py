"""The block quantiser: float32 elements to a block-floating-point vector, in one pass."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import BLOCK_BIAS, EXPONENT_MAX, MANTISSA_BITS

from ..fifo import StreamFifo
from .block_buffer import BlockBuffer, block_layout, quantise_word_layout
from .mantissa import MantissaRounding
from .memory import VectorWrite, bases_layout, parts_per_block
from .vector_block import ABSOLUTE_BITS, BASE_BITS, HALVES, SETS, totals_layout

__all__ = ["BlockQuantiser", "quantise_word_layout"]


class BlockQuantiser(wiring.Component):
    """Quantise vectors as `tailrace.spec.numerics.quantise` does, bit for bit, while they are computed.

    A block's absolute exponent follows from its own largest element, and that is all that its mantissas depend on. Whether
    it is so far below the vector's largest element that it counts as zero is found when it is read (`VectorMemory`). So a
    vector needs one pass, and no memory beyond that of a block or two (`BlockBuffer`).

    The base of a slot follows from the largest exponent of all that the command wrote to it. It is written after the last
    block; with `join` it is the larger one of that and of the base that is there.

    An infinity counts as what its bits say by the formula of a finite value: ``2**128``. So the vector stays usable, and the
    mantissa of such an element is +-16384 or more.

    Throughput: one word a cycle; a block that is not full takes as long as a full one. After a word marked `final` nothing
    is taken until `idle`.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    i : In(stream.Signature(quantise_word_layout(config)))
        The words of a command have the same `set` and `join`.
    bases : In(bases_layout(config))
        `VectorMemory.bases`.
    write : Out(VectorWrite)
    idle : Out(1)
        Everything that was taken has been written: what is read from the vector memory is the new vector.
    overhead : int
        11: from the last word of a command to `idle` it is the words of a block, this, and the number of slots, in cycles.
    """

    overhead = BlockBuffer.latency + MantissaRounding.latency + 2

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(quantise_word_layout(config))),
                "bases": In(bases_layout(config)),
                "write": Out(VectorWrite(config)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.buffer = buffer = BlockBuffer(config)
        m.submodules.rounding = rounding = MantissaRounding(config.word_elements)
        # The blocks whose mantissas are being rounded.
        m.submodules.rounded = rounded = StreamFifo(block_layout(config), 4)

        finishing = Signal()
        command = Signal(data.StructLayout({"set": range(SETS), "join": 1}), reset_less=True)
        m.d.comb += [
            buffer.i.payload.eq(self.i.payload),
            buffer.i.valid.eq(self.i.valid & ~finishing),
            self.i.ready.eq(buffer.i.ready & ~finishing),
            rounding.valid.eq(buffer.valid),
            rounding.elements.eq(buffer.elements),
            rounding.largest.eq(buffer.block.largest),
            rounded.i.valid.eq(buffer.valid & buffer.first),
            rounded.i.payload.eq(buffer.block),
        ]
        committing = self._write(m, rounding, rounded)
        written, bases_written = Signal(), Signal()
        m.d.comb += [
            written.eq(~(buffer.busy | rounding.busy | rounded.o.valid | committing)),
            self.idle.eq(written & ~finishing),
        ]
        with m.If(self.i.valid & self.i.ready & self.i.payload.final):
            m.d.sync += [finishing.eq(1), command.set.eq(self.i.payload.set), command.join.eq(self.i.payload.join)]
        with m.Elif(bases_written):
            m.d.sync += finishing.eq(0)
        self._set_bases(m, command, finishing & written, bases_written)
        return m

    def _write(self, m: Module, rounding: MantissaRounding, rounded: StreamFifo) -> Value:
        """Gather mantissas to beats, sum them up, and write. Returns whether a write is under way."""
        config = self._config
        elements, parts = config.word_elements, parts_per_block(config)
        words = BLOCK // elements
        beat_words = words // parts
        block, valid = rounded.o.payload, rounding.o_valid
        beat, commit = self.write.beat, self.write.commit

        place = Signal(range(words))
        last, beat_ends = Signal(), Signal()
        mantissas = Cat(rounding.mantissas)
        gathered = Signal(config.unit_width - len(mantissas), reset_less=True)
        whole = Cat(gathered, mantissas)
        m.d.comb += [
            last.eq(place == Mux(block.duplicate, words // 2 - 1, words - 1)),
            beat_ends.eq((place % beat_words == beat_words - 1) | last),
            rounded.o.ready.eq(valid & last),
        ]
        # The half of a duplicated block that is one beat is written again in the next cycle.
        again = Signal()
        m.d.sync += [beat.enable.eq((valid & beat_ends) | again), again.eq(valid & beat_ends & block.duplicate & (parts > 1))]
        with m.If(valid):
            m.d.sync += [place.eq(Mux(last, 0, place + 1)), gathered.eq(whole[len(mantissas) :])]
        with m.If(valid & beat_ends):
            m.d.sync += [
                beat.slot.eq(block.slot),
                beat.block.eq(block.block),
                beat.part.eq(place // beat_words),
                beat.data.eq(whole),
            ]
            if parts == 1:
                with m.If(block.duplicate):
                    m.d.sync += beat.data.eq(whole[config.unit_width // 2 :].replicate(2))
        with m.Elif(again):
            m.d.sync += beat.part.eq(beat.part + parts // 2)

        # The sum of a word, and in the cycle after that of half a block. The second half moves the first one on.
        word_sum = Signal(signed(MANTISSA_BITS + (elements - 1).bit_length()), reset_less=True)
        word_valid, word_first, word_last = Signal(), Signal(reset_less=True), Signal(reset_less=True)
        totals = Signal(totals_layout, reset_less=True)
        duplicate = Signal(reset_less=True)
        m.d.sync += [word_valid.eq(valid), commit.enable.eq(word_valid & word_last)]
        with m.If(valid):
            m.d.sync += [
                word_sum.eq(sum(rounding.mantissas[n] for n in range(elements))),
                word_first.eq(place % (words // HALVES) == 0),
                word_last.eq(last),
            ]
        with m.If(valid & last):
            m.d.sync += [
                commit.slot.eq(block.slot),
                commit.block.eq(block.block),
                commit.exponent.eq(block.largest - BLOCK_BIAS),
                duplicate.eq(block.duplicate),
            ]
        with m.If(word_valid):
            m.d.sync += totals[1].eq(Mux(word_first, 0, totals[1]) + word_sum)
            with m.If(word_first):
                m.d.sync += totals[0].eq(totals[1])
        m.d.comb += [commit.totals[0].eq(Mux(duplicate, totals[1], totals[0])), commit.totals[1].eq(totals[1])]
        return word_valid | commit.enable | beat.enable

    def _set_bases(self, m: Module, command: data.View, start: Value, done: Value) -> None:
        """Keep the largest exponent of each slot, and set the bases when everything else is written."""
        slots = self._config.right_hand_sides
        commit, base = self.write.commit, self.write.base
        # As absolute exponents of blocks.
        largest = [Signal(signed(ABSOLUTE_BITS), name=f"largest_{slot}", reset_less=True) for slot in range(slots)]
        touched = Signal(slots)
        for slot in range(slots):
            with m.If(commit.enable & (commit.slot == slot)):
                m.d.sync += touched[slot].eq(1)
                with m.If(~touched[slot] | (commit.exponent > largest[slot])):
                    m.d.sync += largest[slot].eq(commit.exponent)

        # Slot n's base is computed in step n, and written in step n + 1.
        step = Signal(range(slots + 1))
        found, before = Signal(signed(BASE_BITS), reset_less=True), Signal(signed(BASE_BITS), reset_less=True)
        m.d.comb += [
            done.eq(step == slots),
            base.set.eq(command.set),
            base.base.eq(Mux(command.join & (before > found), before, found)),
        ]
        with m.If(start):
            m.d.sync += [
                step.eq(step + 1),
                base.enable.eq(touched.bit_select(step, 1)),
                base.slot.eq(step),
                found.eq(Array(largest)[step] - EXPONENT_MAX),
                before.eq(Array(self.bases[slot][command.set] for slot in range(slots))[step]),
            ]
        with m.If(done):
            m.d.sync += [step.eq(0), touched.eq(0), base.enable.eq(0)]
