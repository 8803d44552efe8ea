"""The words of the activation buffer that an `APPEND` needs, in order."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import COMMAND_BYTES, MAX_HEAD, MAX_SEGMENTS, Cache, Opcode

from ..control.layout import command_layout
from .activation_buffer import buffer_words
from .append_operation import Step, append_operation_layout, part_elements


class AppendReader(wiring.Component):
    """Says which word of the buffer to read in each cycle, and what it is for.

    Keys: for each block of each head the block's elements (32, those that the head lacks masked), and the word with its scale;
    the block's nibbles are written before that. Values: for each head its elements, as many as a multiple of the lanes (those
    that it lacks masked), then the word with its scale.

    One step a cycle, as long as `advance` is 1.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(512)
    start : In(1)
        Begin; not before the command before it is done.
    advance : In(1)
        The step is taken.
    valid : Out(1)
        There is a step.
    operation : Out(append_operation_layout(config))
    address : Out(range(buffer_words(config)))
        The word that the step needs.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(8 * COMMAND_BYTES),
                "start": In(1),
                "advance": In(1),
                "valid": Out(1),
                "operation": Out(append_operation_layout(config)),
                "address": Out(range(buffer_words(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, elements = self._config, part_elements(self._config)
        word_bits, part_bits = exact_log2(config.word_elements), exact_log2(config.word_elements // elements)
        command = data.View(command_layout(Opcode.APPEND), self.command)
        values = command.cache == Cache.VALUES.value

        step = Signal(Step)
        # The head's first part of a word, and the one that is due.
        head, part = (Signal(range(config.buffer_entries // elements), name=n, reset_less=True) for n in ("head", "part"))
        scale = Signal(range(config.buffer_entries), reset_less=True)
        # Elements of the head from this part on; parts of a block of keys, or of a beat of values, which all lanes make.
        left = Signal(range(MAX_HEAD + 1), reset_less=True)
        block_part = Signal(range(max(BLOCK, config.lanes) // elements), reset_less=True)
        heads_left = Signal(range(MAX_SEGMENTS + 1), reset_less=True)

        reads_scale = (step == Step.KEY_SCALE) | (step == Step.VALUE_SCALE)
        next_head = Signal.like(head)
        first_step = Mux(values, Step.VALUES, Step.GATHER)
        beat_parts, block_parts = config.lanes // elements, BLOCK // elements
        beat_ends = block_part % beat_parts == beat_parts - 1
        block_ends = block_part[: exact_log2(block_parts)] == block_parts - 1
        operation = self.operation
        m.d.comb += [
            next_head.eq(head + command.a_stride // elements),
            self.address.eq(Mux(reads_scale, scale >> word_bits, part >> part_bits)),
            operation.step.eq(step),
            operation.part.eq(part),
            operation.mask.eq(Cat(left > n for n in range(elements))),
            operation.element.eq(scale),
            operation.writes.eq((step != Step.GATHER) & ((step != Step.VALUES) | beat_ends)),
            operation.head_ends.eq((step == Step.VALUE_SCALE) | ((step == Step.KEY_SCALE) & (left == 0))),
            operation.final.eq(operation.head_ends & (heads_left == 1)),
        ]
        with m.If(self.start):
            m.d.sync += [
                self.valid.eq(1),
                step.eq(first_step),
                head.eq(command.a // elements),
                part.eq(command.a // elements),
                scale.eq(command.b),
                left.eq(command.count),
                heads_left.eq(command.segments),
                block_part.eq(0),
            ]
        with m.Elif(self.valid & self.advance):
            with m.Switch(step):
                with m.Case(Step.GATHER, Step.VALUES):
                    m.d.sync += [
                        part.eq(part + 1),
                        block_part.eq(block_part + 1),
                        left.eq(Mux(left > elements, left - elements, 0)),
                    ]
                    with m.If((step == Step.GATHER) & block_ends):
                        m.d.sync += step.eq(Step.UPPER)
                    with m.If((step == Step.VALUES) & beat_ends & (left <= elements)):
                        m.d.sync += step.eq(Step.VALUE_SCALE)
                with m.Case(Step.UPPER):
                    m.d.sync += step.eq(Step.LOWER)
                with m.Case(Step.LOWER):
                    m.d.sync += step.eq(Step.KEY_SCALE)
                with m.Default():
                    m.d.sync += [scale.eq(scale + 1), step.eq(first_step)]
            with m.If(operation.head_ends):
                m.d.sync += [
                    head.eq(next_head),
                    part.eq(next_head),
                    left.eq(command.count),
                    heads_left.eq(heads_left - 1),
                    self.valid.eq(~operation.final),
                ]
        return m
