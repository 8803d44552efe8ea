"""Reads one entry of the activation buffer for the program's registers."""

from typing import Any

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES, Opcode

from ..control.layout import command_layout
from .activation_buffer import FLOAT_BITS, BufferRead


class EntryReader(wiring.Component):
    """Carry out `READ`: send the bits of an entry to the sequencer.

    Latency: 1 cycle from a command to its value. The command is taken together with the value.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(512))
    a : Out(BufferRead)
    value : Out(stream.Signature(32))
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(8 * COMMAND_BYTES)),
                "a": Out(BufferRead(config)),
                "value": Out(stream.Signature(FLOAT_BITS)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        elements = self._config.word_elements
        command = command_layout(Opcode.READ)(self.command.payload)
        asked = Signal()
        words = Array(self.a.data[n] for n in range(elements))
        m.d.sync += asked.eq(self.command.valid & ~self.command.ready)
        m.d.comb += [
            self.a.enable.eq(self.command.valid & ~asked),
            self.a.address.eq(command.a >> exact_log2(elements)),
            self.value.valid.eq(asked),
            self.value.payload.eq(words[command.a & (elements - 1)]),
            self.command.ready.eq(asked & self.value.ready),
        ]
        return m
