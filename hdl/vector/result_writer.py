"""Writes what the reductions of an `ELEMENTWISE` command give."""

import math
from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.commands import float_bits
from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES, Opcode, Reduce

from ..control.layout import command_layout
from ..float.reduction import result_layout
from .activation_buffer import FLOAT_BITS, BufferWrite


class _Write(enum.Enum, shape=2):
    VALUE = 0
    INDEX = 1
    REMOVE = 2


class ResultWriter(wiring.Component):
    """Write each result to its entries: a value; for an argmax the index too; and minus infinity in place of what is removed.

    Takes one cycle for each of these writes, as far as `ready` allows. Nothing is removed when the result is what the
    reduction resumed from, nor from a streamed operand.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(512)
        The `ELEMENTWISE` command whose results these are.
    start : In(1)
        First cycle of a command.
    settled : In(1)
        All words of the segment have been written. Only then an element is removed, as it may be one of them.
    i : In(stream.Signature(result_layout))
        Results, segment after segment. Taken with their last write.
    entry : Out(range(buffer_entries))
        Where the next result goes.
    write : Out(BufferWrite)
    ready : In(1)
        The buffer takes what is on `write`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(8 * COMMAND_BYTES),
                "start": In(1),
                "settled": In(1),
                "i": In(stream.Signature(result_layout)),
                "entry": Out(range(config.buffer_entries)),
                "write": Out(BufferWrite(config, config.word_elements)),
                "ready": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        element_bits = config.word_elements.bit_length() - 1
        entry_bits = config.buffer_entries.bit_length() - 1
        command = command_layout(Opcode.ELEMENTWISE)(self.command)
        result = self.i.payload

        entry, segment = Signal(entry_bits), Signal(entry_bits)
        what = Signal(_Write)
        argmax = (command.reduce == Reduce.ARGMAX) | (command.reduce == Reduce.ARGMAX_REMOVE)
        m.d.comb += self.entry.eq(entry)

        place, value = Signal(entry_bits), Signal(FLOAT_BITS)
        last, writes, done = Signal(), Signal(), Signal()
        # Worked out while the value and the index are written.
        position, removed = Signal(entry_bits, reset_less=True), Signal(entry_bits, reset_less=True)
        m.d.sync += [position.eq(result.index - command.index), removed.eq(segment + position)]
        m.d.comb += writes.eq(1)
        with m.Switch(what):
            with m.Case(_Write.VALUE):
                m.d.comb += [place.eq(entry), value.eq(result.value), last.eq(~argmax)]
            with m.Case(_Write.INDEX):
                m.d.comb += [place.eq(entry + 1), value.eq(result.index), last.eq(command.reduce == Reduce.ARGMAX)]
            with m.Default():
                m.d.comb += [place.eq(removed), value.eq(float_bits(-math.inf)), last.eq(1)]
                m.d.comb += writes.eq(self.settled & ~(result.resumed | command.a_stream))
        m.d.comb += [
            self.write.address.eq(place[element_bits:]),
            self.write.mask.eq(Const(1) << place[:element_bits] if element_bits else 1),
            Value.cast(self.write.data).eq(value.replicate(config.word_elements)),
            self.write.enable.eq(self.i.valid & writes),
            done.eq(self.ready & ((what != _Write.REMOVE) | self.settled)),
            self.i.ready.eq(done & last),
        ]
        with m.If(self.i.valid & done):
            m.d.sync += what.eq(Mux(what == _Write.VALUE, _Write.INDEX, _Write.REMOVE))
            with m.If(last):
                m.d.sync += [
                    what.eq(_Write.VALUE),
                    entry.eq(entry + Mux(argmax, 2, 1)),
                    segment.eq(segment + command.a_stride),
                ]
        with m.If(self.start):
            m.d.sync += [entry.eq(command.r), segment.eq(command.a)]
        return m
