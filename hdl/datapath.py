"""The execute side: the two units, and what stays on the device."""

from typing import Any

from amaranth.hdl import Array, ClockDomain, DomainRenamer, Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tailrace.spec.config import Config
from tailrace.spec.isa import Opcode

from .axi.signature import beat_write_layout
from .clock_gate import ClockGate
from .control.dispatcher import Dispatcher
from .control.layout import command_layout, operation_layout
from .control.probe import unit_probe_layout
from .fifo import StreamFifo
from .gemv.engine import GemvEngine
from .slots.memory import VectorMemory
from .stream_register import StreamRegister
from .vector.activation_buffer import FLOAT_BITS, ActivationBuffer
from .vector.vector_unit import VectorUnit

#: Beats of vectors and parameters that may wait for the vector unit while the weights behind them go on to the matrix unit.
PARAMETER_BEATS = 128


class Datapath(wiring.Component):
    """Dispatcher, matrix unit, vector unit, vector slots and activation buffer.

    Parameters
    ----------
    config : Config
    gated : bool
        Whether the vector unit's clock stands still while it has nothing to do (`ClockGate`).

    Attributes
    ----------
    flush : in
        While 1 the units are held in reset. Vector slots and the activation buffer keep what they hold.
    operation : stream of operations, in
    vector, weights : streams of bus beats, in
        The data of the operations, in their order.
    store : stream of beat writes, out
        To memory.
    value : stream of 32 bits, out
        What a `READ` has read.
    vector_unfinished : out
        Operations of the vector unit that were taken and are not finished.
    idle : out
        Nothing is left to do.
    matrix_busy, vector_busy : out
        A unit has an operation that has started.
    command : out
        Index of the command that was started last.
    probe : out
        For timelines.
    """

    def __init__(self, config: Config, gated: bool = False) -> None:
        self._config, self._gated = config, gated
        super().__init__(
            {
                "flush": In(1),
                "operation": In(stream.Signature(operation_layout())),
                "vector": In(stream.Signature(config.unit_width)),
                "weights": In(stream.Signature(config.beat_width)),
                "store": Out(stream.Signature(beat_write_layout(config.address_width, config.beat_width))),
                "value": Out(stream.Signature(FLOAT_BITS)),
                "vector_unfinished": Out(8),
                "idle": Out(1),
                "matrix_busy": Out(1),
                "vector_busy": Out(1),
                "command": Out(16),
                "probe": Out(unit_probe_layout()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        clear = ResetInserter(self.flush)
        dispatcher, gemv, vector = Dispatcher(), GemvEngine(config), VectorUnit(config)
        parameters, beats = StreamFifo(config.unit_width, PARAMETER_BEATS), StreamRegister(config.unit_width)
        for name, unit in (("dispatcher", dispatcher), ("gemv", gemv), ("parameters", parameters), ("beats", beats)):
            m.submodules[name] = clear(unit)
        if self._gated:
            m.domains.vector = ClockDomain()
            m.submodules.gate = gate = ClockGate("vector")
            m.submodules.vector = DomainRenamer("vector")(clear(vector))
            m.d.comb += gate.work.eq(dispatcher.vector.valid | self.flush)
        else:
            m.submodules.vector = clear(vector)
        m.submodules.slots = slots = VectorMemory(config)
        m.submodules.buffer = buffer = ActivationBuffer(config)

        connect(m, flipped(self.operation), dispatcher.i)
        connect(m, dispatcher.vector, vector.operation)
        connect(m, flipped(self.vector), parameters.i)
        connect(m, parameters.o, beats.i)
        connect(m, beats.o, vector.parameters)
        connect(m, flipped(self.weights), gemv.i)
        connect(m, vector.slots, slots.write)
        connect(m, vector.a, buffer.a)
        connect(m, vector.b, buffer.b)
        connect(m, vector.write, buffer.vector)
        connect(m, gemv.write, buffer.matrix)
        connect(m, vector.store, flipped(self.store))
        connect(m, vector.value, flipped(self.value))
        m.d.comb += [
            vector.write_ready.eq(buffer.vector_ready),
            vector.bases.eq(slots.bases),
            slots.vector_block.eq(gemv.vector_block),
            slots.set.eq(gemv.set),
            gemv.vector.eq(slots.vector),
            dispatcher.vector_finished.eq(vector.finished),
            self.vector_unfinished.eq(dispatcher.vector_unfinished),
            self.idle.eq(dispatcher.idle),
            self.matrix_busy.eq(dispatcher.matrix_busy),
            self.vector_busy.eq(dispatcher.vector_busy),
            self.command.eq(dispatcher.command),
            self.probe.eq(dispatcher.probe),
        ]

        # A cycle later, as are the engine's results in the buffer.
        m.d.sync += dispatcher.matrix_finished.eq(gemv.finished)

        product = command_layout(Opcode.GEMV)(dispatcher.matrix.payload.command)
        matrix = gemv.command.payload
        m.d.comb += [
            gemv.command.valid.eq(dispatcher.matrix.valid),
            dispatcher.matrix.ready.eq(gemv.command.ready),
            matrix.format.eq(product.format),
            matrix.rows.eq(product.rows),
            matrix.blocks.eq(product.blocks),
            matrix.slots.eq(product.slots),
            matrix.first_block.eq(product.first_block),
            matrix.set.eq(product.set),
            matrix.exponent.eq(product.exponent),
            matrix.offset.eq(product.offset),
            matrix.slot_stride.eq(product.slot_stride),
            matrix.keep_maxima.eq(product.keep_maxima),
            matrix.maxima.eq(product.maxima),
            matrix.masked.eq(product.masked),
            *(base.eq(Array(sets)[product.set]) for base, sets in zip(matrix.bases, slots.bases, strict=True)),
        ]
        return m
