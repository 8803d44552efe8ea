"""Appending keys and values to the cache."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK, LANE_BYTES
from tailrace.spec.isa import COMMAND_BYTES

from ..axi.signature import beat_write_layout
from .activation_buffer import FLOAT_BITS, BufferRead
from .append_operation import Step, append_operation_layout, part_elements
from .append_reader import AppendReader
from .cache_places import CachePlaces
from .code_rounding import CodeRounding
from .half_rounding import HalfRounding

_CODE_BITS = 8
_NIBBLE_BITS = _CODE_BITS // 2


class Append(wiring.Component):
    """Carry out `APPEND`: round scaled keys or values to codes, and write them to their places in the cache.

    Every write is one bus beat, of which only some bytes are written. A block of 32 keys takes three: 16 bytes of upper
    nibbles, 16 of lower ones, and 2 of a float16 scale. The values of all lanes take one, with a byte in every lane; the scale
    of a head takes one, of 4 bytes. A command stays at `command` until its last beat is taken.

    The work is a sequence of steps (`Step`) that go down one pipeline: read, hold, measure, shift, round, write. It halts while
    a beat waits.

    Throughput: one step a cycle, with ``w = min(word_elements, lanes)`` elements: ``32 / w + 3`` cycles for a block of keys,
    ``ceil(count / lanes) * lanes / w + 1`` for the values of a head. `overhead` cycles more for a command.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(512))
        The command, without modifiers and checked.
    index : In(16)
        Its index, which goes with the beats.
    a : Out(BufferRead(config))
    write : Out(stream.Signature(beat_write_layout(address_width, beat_width)))
    overhead : int
        16: cycles of a command besides its steps.
    """

    overhead = CachePlaces.setup + 8

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(8 * COMMAND_BYTES)),
                "index": In(16),
                "a": Out(BufferRead(config)),
                "write": Out(stream.Signature(beat_write_layout(config.address_width, config.beat_width))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, write, elements = self._config, self.write, part_elements(self._config)
        m.submodules.reader = reader = AppendReader(config)
        m.submodules.places = places = CachePlaces(config)
        m.submodules.codes = codes = CodeRounding(elements)
        m.submodules.half = half = HalfRounding()

        begun, started, final = Signal(), Signal(), Signal()
        advance = Signal()
        m.d.comb += [
            self.command.ready.eq(write.valid & write.ready & final),
            reader.command.eq(self.command.payload),
            reader.start.eq(places.ready & begun & ~started),
            places.command.eq(self.command.payload),
            places.begun.eq(begun),
            advance.eq(~write.valid | write.ready),
            reader.advance.eq(advance),
            self.a.address.eq(reader.address),
            self.a.enable.eq(reader.valid & advance),
        ]
        m.d.sync += [begun.eq(self.command.valid & ~self.command.ready), started.eq(places.ready & begun & ~self.command.ready)]

        # Stage 0 reads. Stage 1 has the word at the buffer's output, 2 in a register, 3 measured, 4 shifted, 5 rounded.
        stage_layout = data.StructLayout({"valid": 1, "operation": append_operation_layout(config)})
        stages = [Signal(stage_layout, name=f"stage_{n}") for n in range(6)]
        m.d.comb += [stages[0].valid.eq(reader.valid), stages[0].operation.eq(reader.operation)]
        word = Signal(data.ArrayLayout(FLOAT_BITS, elements), reset_less=True)
        scales = [Signal(FLOAT_BITS, name=f"scale_{n}", reset_less=True) for n in range(2, 6)]
        m.d.comb += [
            codes.elements.eq(word),
            codes.enable.eq(advance & (stages[2].valid | stages[3].valid | stages[4].valid)),
            half.x.eq(scales[0]),
            half.enable.eq(codes.enable),
        ]
        with m.If(advance):
            m.d.sync += [after.eq(before) for before, after in zip(stages, stages[1:], strict=False)]
            with m.If(stages[1].valid):
                m.d.sync += [
                    scales[0].eq(self.a.data.as_value().word_select(stages[1].operation.element, FLOAT_BITS)),
                    word.eq(
                        self.a.data.as_value().word_select(stages[1].operation.part, elements * FLOAT_BITS)
                        & Cat(bit.replicate(FLOAT_BITS) for bit in stages[1].operation.mask)
                    ),
                ]
            m.d.sync += [after.eq(before) for before, after in zip(scales, scales[1:], strict=False)]

        done = stages[5]
        m.d.comb += [places.operation.eq(done.operation), places.advance.eq(done.valid & advance)]
        # The codes that came last, this step's included, and which of the lanes they would fill have a value.
        codes_layout = data.ArrayLayout(_CODE_BITS, max(BLOCK, config.lanes))
        block, gathered = Signal(codes_layout, reset_less=True), Signal(codes_layout)
        there, lanes_there = Signal(config.lanes, reset_less=True), Signal(config.lanes)
        m.d.comb += [
            gathered.eq(Cat(block.as_value()[elements * _CODE_BITS :], codes.codes)),
            lanes_there.eq(Cat(there[elements:], done.operation.mask)),
            places.mask.eq(lanes_there),
        ]
        with m.If(advance):
            m.d.sync += write.valid.eq(done.valid & done.operation.writes)
            with m.If(done.valid):
                m.d.sync += [
                    write.payload.address.eq(places.address),
                    write.payload.strobe.eq(places.strobe),
                    write.payload.command.eq(self.index),
                    final.eq(done.operation.final),
                ]
                with m.If((done.operation.step == Step.GATHER) | (done.operation.step == Step.VALUES)):
                    m.d.sync += [block.eq(gathered), there.eq(lanes_there)]
                with m.Switch(done.operation.step):
                    with m.Case(Step.UPPER):
                        m.d.sync += write.payload.data.eq(_nibbles(block, _NIBBLE_BITS).replicate(config.lanes))
                    with m.Case(Step.LOWER):
                        m.d.sync += write.payload.data.eq(_nibbles(block, 0).replicate(config.lanes))
                    with m.Case(Step.KEY_SCALE):
                        m.d.sync += write.payload.data.eq(half.half.replicate(config.beat_width // 16))
                    with m.Case(Step.VALUES):
                        newest = len(gathered) - config.lanes
                        bytes_of_lanes = Cat(gathered[newest + n].replicate(LANE_BYTES) for n in range(config.lanes))
                        m.d.sync += write.payload.data.eq(bytes_of_lanes)
                    with m.Case(Step.VALUE_SCALE):
                        m.d.sync += write.payload.data.eq(scales[-1].replicate(config.beat_width // FLOAT_BITS))
        return m


def _nibbles(block: data.View, low: int) -> Cat:
    """A nibble beat: in each byte that of element j, and above it that of element j + 16."""
    nibbles = [block[len(block) - BLOCK + n][low : low + _NIBBLE_BITS] for n in range(BLOCK)]
    return Cat(*(Cat(nibbles[n], nibbles[n + BLOCK // 2]) for n in range(BLOCK // 2)))
