"""The elementwise unit: `ELEMENTWISE` and `ROTATE`."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES

from ..slots.block_quantiser import quantise_word_layout
from .activation_buffer import BufferRead, BufferWrite


class Elementwise(wiring.Component):
    """Carry out `ELEMENTWISE` and `ROTATE` commands: a word of the activation buffer per cycle.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(512))
        Commands whose modifiers have been applied and which have been checked. A command stays until everything that it writes has
        been written; it is taken in its last cycle.
    parameters : In(stream.Signature(bus_width))
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
    idle : Out(1)
        No command is offered.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(8 * COMMAND_BYTES)),
                "parameters": In(stream.Signature(config.bus_width)),
                "a": Out(BufferRead(config)),
                "b": Out(BufferRead(config)),
                "write": Out(BufferWrite(config)),
                "write_ready": In(1),
                "quantise": Out(stream.Signature(quantise_word_layout(config))),
                "quantise_idle": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        raise NotImplementedError
