"""The vector unit: everything that is not a matrix-vector product."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tailrace.spec.config import Config
from tailrace.spec.isa import Opcode

from ..axi.signature import beat_write_layout
from ..control.layout import command_layout, operation_layout
from ..slots.block_quantiser import BlockQuantiser
from ..slots.loader import VectorLoader
from ..slots.memory import VectorWrite, bases_layout
from ..slots.write_select import VectorWriteSelect
from .activation_buffer import FLOAT_BITS, BufferRead, BufferWrite
from .append import Append
from .elementwise import Elementwise
from .entry_reader import EntryReader
from .store import Store


class VectorUnit(wiring.Component):
    """Carry out one operation after the other, each on the sub-unit that its opcode names.

    Only the sub-unit at work uses the buffer's ports, the parameters and the way to memory, so these are switched by the
    opcode. An operation stays at `operation` until it is finished: what it has written is there for whoever reads in the next
    cycle, and what goes to memory has been handed on. The opcode is decoded once, into a register with a bit for each sub-unit:
    it is 1 from the cycle after the operation's first until its sub-unit is done; the cycle after that is its last one.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    operation : stream of operations, in
    parameters : stream of bus beats, in
        Vector images and streamed operands, in the order of the operations.
    a, b : BufferRead, out
    write : BufferWrite, out
    write_ready : in
    slots : VectorWrite, out
    bases : in
        The base exponents of the vector slots.
    store : stream of beat writes, out
        To memory.
    value : stream of 32 bits, out
        What a `READ` has read.
    finished : out
        1 for one cycle at the end of each operation.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "operation": In(stream.Signature(operation_layout())),
                "parameters": In(stream.Signature(config.unit_width)),
                "a": Out(BufferRead(config)),
                "b": Out(BufferRead(config)),
                "write": Out(BufferWrite(config, config.word_elements)),
                "write_ready": In(1),
                "slots": Out(VectorWrite(config)),
                "bases": In(bases_layout(config)),
                "store": Out(stream.Signature(beat_write_layout(config.address_width, config.beat_width))),
                "value": Out(stream.Signature(FLOAT_BITS)),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.loader = loader = VectorLoader(config)
        m.submodules.elementwise = elementwise = Elementwise(config)
        m.submodules.store = store = Store(config)
        m.submodules.append = append = Append(config)
        m.submodules.reader = reader = EntryReader(config)
        m.submodules.quantiser = quantiser = BlockQuantiser(config)
        m.submodules.select = select = VectorWriteSelect(config)

        connect(m, elementwise.quantise, quantiser.i)
        connect(m, loader.write, select.loader)
        connect(m, quantiser.write, select.quantiser)
        connect(m, select.write, flipped(self.slots))
        connect(m, elementwise.write, flipped(self.write))
        connect(m, reader.value, flipped(self.value))
        m.d.comb += [
            elementwise.write_ready.eq(self.write_ready),
            elementwise.quantise_idle.eq(quantiser.idle),
            quantiser.bases.eq(self.bases),
            store.index.eq(self.operation.payload.index),
            append.index.eq(self.operation.payload.index),
            self.finished.eq(self.operation.valid & self.operation.ready),
        ]

        opcode = Signal(8)
        m.d.comb += opcode.eq(command_layout(Opcode.FENCE)(self.operation.payload.command).opcode)
        # A bit for each sub-unit: it is at work.
        selected, done, finished = Signal(5), Signal(), Signal()
        loads, combines, stores, appends, reads = selected
        commands = (
            (loads, loader.command, (Opcode.LOAD_VECTOR,)),
            (combines, elementwise.command, (Opcode.ELEMENTWISE, Opcode.ROTATE)),
            (stores, store.command, (Opcode.STORE,)),
            (appends, append.command, (Opcode.APPEND,)),
            (reads, reader.command, (Opcode.READ,)),
        )
        for works, command, opcodes in commands:
            named = Cat(opcode == op for op in opcodes).any()
            m.d.sync += works.eq(self.operation.valid & named & ~done & ~finished)
            m.d.comb += [command.payload.eq(self.operation.payload.command), command.valid.eq(works)]
        m.d.comb += [
            done.eq(Cat(works & command.ready for works, command, _ in commands).any()),
            self.operation.ready.eq(finished),
        ]
        m.d.sync += finished.eq(done)

        _share(m, self.a, (combines, elementwise.a), (stores, store.a), (appends, append.a), (reads, reader.a))
        _share(m, self.b, (combines, elementwise.b))
        m.d.comb += [
            # The one that is not at work offers nothing.
            store.write.ready.eq(self.store.ready),
            append.write.ready.eq(self.store.ready),
            self.store.valid.eq(store.write.valid | append.write.valid),
            self.store.payload.eq(Mux(stores, _whole_beat(m, config, store.write.payload), append.write.payload)),
            loader.i.payload.eq(self.parameters.payload),
            loader.i.valid.eq(self.parameters.valid & loads),
            elementwise.parameters.payload.eq(self.parameters.payload),
            elementwise.parameters.valid.eq(self.parameters.valid & combines),
            self.parameters.ready.eq((loader.i.ready & loads) | (elementwise.parameters.ready & combines)),
        ]
        return m


def _whole_beat(m: Module, config: Config, write: data.View) -> data.View:
    """The write of a beat's unit of 64 bytes, if beats have more, as one of the beat."""
    if config.beat_units == 1:
        return write
    whole = Signal(beat_write_layout(config.address_width, config.beat_width), name="stored")
    unit_bits, beat_bits = exact_log2(config.unit_bytes), exact_log2(config.beat_bytes)
    m.d.comb += [
        whole.address[beat_bits:].eq(write.address[beat_bits:]),
        whole.data.eq(write.data.replicate(config.beat_units)),
        whole.strobe.word_select(write.address[unit_bits:beat_bits], config.unit_bytes).eq(write.strobe),
        whole.command.eq(write.command),
    ]
    return whole


def _share(m: Module, port: Any, *users: tuple[Value, Any]) -> None:
    """Give a read port of the buffer to the reader whose condition is 1, of which one is at most."""
    m.d.comb += [
        port.enable.eq(Cat(reader.enable & works for works, reader in users).any()),
        port.address.eq(reduce(or_, (reader.address & works.replicate(len(reader.address)) for works, reader in users))),
        *(reader.data.eq(port.data) for _, reader in users),
    ]
