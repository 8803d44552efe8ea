"""The elementwise unit: `ELEMENTWISE` and `ROTATE`."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES, Opcode, Reduce, Target

from ..control.layout import command_layout
from ..fifo import StreamFifo
from ..float.reduction import Reduction
from ..float.word import reduction_word_layout
from ..slots.block_quantiser import quantise_word_layout
from ..stream_register import StreamRegister
from .activation_buffer import BufferRead, BufferWrite, word_layout
from .elementwise_sequencer import ElementwiseSequencer, place_layout
from .elementwise_settings import scalars_of, settings_layout, settings_of
from .operand_stream import OperandStream
from .operands import OperandFetch
from .pipeline import ElementwisePipeline
from .result_writer import ResultWriter

#: More results than can be on their way: one for each word in the pipeline, and what the reduction holds.
_MAX_OUTSTANDING = 64
#: Words that may wait behind the pipeline: one on its way out, and those that still come when the pipeline learns of it.
_WORDS_WAITING = 4


class Elementwise(wiring.Component):
    """Carry out `ELEMENTWISE` and `ROTATE` commands: a word of the activation buffer per cycle.

    The pipeline never starts a command before the one before it is finished, but takes segment after segment without a gap
    (`ElementwiseSequencer` says what costs cycles between them).

    Whether the pipeline advances is a register, as it concerns thousands of others: what comes out of it goes through buffers,
    and it halts when these are no longer sure to have room in the cycle after.

    Latency: a command without reductions and slots takes a cycle for each step of its sequence, and `overhead` more,
    or `identity_overhead` if it has no function. Throughput: one word a cycle.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(512))
        Commands whose modifiers have been applied and which have been checked. A command stays until everything that it
        writes has been written; it is taken in its last cycle.
    parameters : In(stream.Signature(unit_width))
        The streamed operands of the commands, in their order. Beats that belong to other commands must not be offered.
    a, b : Out(BufferRead)
        The buffer's read ports, of which the unit has the use while a command is offered.
    write : Out(BufferWrite)
    write_ready : In(1)
        The buffer takes what is on `write` in this cycle.
    quantise : Out(stream.Signature(quantise_word_layout(config)))
        Words for the vector slots.
    quantise_idle : In(1)
        All words have reached the slots.
    """

    #: Setting up, fetching operands (4), the pipeline, the buffer behind it, and seeing that all is done (3).
    overhead = 9 + ElementwisePipeline.latency
    #: The same of a command without a function.
    identity_overhead = overhead - ElementwisePipeline.function_latency

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(8 * COMMAND_BYTES)),
                "parameters": In(stream.Signature(config.unit_width)),
                "a": Out(BufferRead(config)),
                "b": Out(BufferRead(config)),
                "write": Out(BufferWrite(config, config.word_elements)),
                "write_ready": In(1),
                "quantise": Out(stream.Signature(quantise_word_layout(config))),
                "quantise_idle": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        command = command_layout(Opcode.ELEMENTWISE)(self.command.payload)
        m.submodules.sequencer = sequencer = ElementwiseSequencer(config)
        m.submodules.stream = operand_stream = OperandStream(config)
        m.submodules.operands = operands = OperandFetch(config)
        m.submodules.pipeline = pipeline = ElementwisePipeline(config)
        m.submodules.reduction = reduction = Reduction(config.word_elements)
        m.submodules.results = results = ResultWriter(config)

        settings = Signal(settings_layout)
        with m.If(sequencer.start):
            m.d.sync += settings.eq(settings_of(m, self.command.payload))
        reduces = settings.reduce != Reduce.NONE

        advance, empty = Signal(), Signal()
        outstanding = Signal(range(_MAX_OUTSTANDING))
        # Registered, so that of all that may be going on only one bit goes into the decisions of the sequencer.
        drained, slots_idle = Signal(), Signal()
        m.d.sync += [
            outstanding.eq(outstanding + (sequencer.result_step & reduces) - (results.i.valid & results.i.ready)),
            drained.eq(empty & ~sequencer.stepping & (outstanding == 0) & operand_stream.idle),
            slots_idle.eq(self.quantise_idle),
        ]
        m.d.comb += [
            self.command.ready.eq(sequencer.done),
            sequencer.command.eq(self.command.payload),
            sequencer.valid.eq(self.command.valid),
            sequencer.advance.eq(advance),
            sequencer.streamed.eq(settings.streamed),
            sequencer.stream_valid.eq(operand_stream.o.valid),
            sequencer.drained.eq(drained),
            sequencer.slots_idle.eq(slots_idle),
            sequencer.result_entry.eq(results.entry),
        ]
        connect(m, flipped(self.parameters), operand_stream.i)
        m.d.comb += [
            operand_stream.o.ready.eq(sequencer.stream_ready),
            operand_stream.last.eq(sequencer.stream_last),
        ]
        # The streamed word of the step that the sequencer shows.
        streamed = Signal(word_layout(config), reset_less=True)
        with m.If(advance):
            m.d.sync += streamed.eq(operand_stream.o.payload)
        for port, address, word in (
            (self.a, sequencer.a_address, operands.a),
            (self.b, sequencer.b_address, operands.b),
        ):
            m.d.comb += [port.enable.eq(sequencer.read & advance), port.address.eq(address), word.eq(port.data)]
        m.d.comb += [
            operands.enable.eq(advance),
            operands.start.eq(sequencer.start),
            operands.scalars.eq(scalars_of(m, self.command.payload)),
            operands.settings.eq(settings),
            operands.fetch.eq(sequencer.fetch),
            operands.place.eq(sequencer.place),
            operands.streamed.eq(streamed),
            pipeline.enable.eq(advance),
            pipeline.function.eq(settings.function),
            pipeline.valid.eq(operands.valid),
            pipeline.operands.eq(operands.operands),
            pipeline.place.eq(operands.operands_place),
        ]

        # What the pipeline gives goes to the reduction, or on as a word for the buffer or the slots, or both.
        m.submodules.to_reduction = to_reduction = StreamFifo(reduction_word_layout(config.word_elements), _WORDS_WAITING)
        out_layout = data.StructLayout({"data": word_layout(config), "place": place_layout(config)})
        m.submodules.out = out = StreamFifo(out_layout, _WORDS_WAITING)
        m.d.comb += [
            to_reduction.i.valid.eq(Mux(settings.reduce_u, pipeline.u_valid, pipeline.v_valid) & reduces & advance),
            out.i.valid.eq(pipeline.v_valid & (settings.target != Target.NONE) & advance),
            out.i.payload.data.eq(pipeline.v),
            out.i.payload.place.eq(pipeline.v_place),
            empty.eq(~(operands.busy | pipeline.busy | out.o.valid)),
        ]
        # One word may come before this is known, and one after it.
        m.d.sync += advance.eq((to_reduction.level <= _WORDS_WAITING - 2) & (out.level <= _WORDS_WAITING - 2))

        m.d.comb += [
            reduction.kind.eq(settings.reduce),
            reduction.negate.eq(command.negate),
            reduction.resume.eq(command.resume),
            reduction.start.eq(operands.start_value),
            reduction.start_index.eq(operands.start_index),
            reduction.index.eq(command.index),
        ]
        for chosen, word, place in ((0, pipeline.v, pipeline.v_place), (1, pipeline.u, pipeline.u_place)):
            with m.If(settings.reduce_u == chosen):
                m.d.comb += [
                    to_reduction.i.payload.data.eq(word),
                    to_reduction.i.payload.mask.eq(place.mask),
                    to_reduction.i.payload.first.eq(place.first),
                    to_reduction.i.payload.last.eq(place.last),
                ]
        # Behind distributed RAM, before multipliers.
        m.submodules.reduced = reduced = StreamRegister(reduction_word_layout(config.word_elements))
        connect(m, to_reduction.o, reduced.i)
        connect(m, reduced.o, reduction.i)
        connect(m, reduction.o, results.i)
        m.d.comb += [
            results.command.eq(self.command.payload),
            results.start.eq(sequencer.start),
            results.settled.eq(empty),
            results.ready.eq(self.write_ready),
        ]

        place = out.o.payload.place
        to_slots = settings.target == Target.SLOT
        m.d.comb += [
            out.o.ready.eq(Mux(to_slots, self.quantise.ready, ~results.write.enable & self.write_ready)),
            self.quantise.valid.eq(out.o.valid & to_slots),
        ]
        with m.If(results.write.enable):
            m.d.comb += [
                self.write.enable.eq(1),
                self.write.address.eq(results.write.address),
                self.write.data.eq(results.write.data),
                self.write.mask.eq(results.write.mask),
            ]
        with m.Else():
            m.d.comb += [
                self.write.enable.eq(out.o.valid & ~to_slots),
                self.write.address.eq(place.address),
                self.write.data.eq(out.o.payload.data),
                self.write.mask.eq(place.mask),
            ]

        word = self.quantise.payload
        m.d.comb += [
            word.data.eq(out.o.payload.data),
            word.mask.eq(place.mask),
            word.slot.eq(place.slot),
            word.set.eq(command.set),
            word.block.eq(command.first_block),
            word.first.eq(place.vector_first),
            word.last.eq(place.last),
            word.final.eq(place.final),
            word.duplicate.eq(command.duplicate),
            word.join.eq(command.join),
        ]
        return m
