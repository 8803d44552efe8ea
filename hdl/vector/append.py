"""Appending keys and values to the cache."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES

from ..axi.signature import beat_write_layout
from .activation_buffer import BufferRead


class Append(wiring.Component):
    """Carry out `APPEND`: round keys or values to codes and write them to the cache.

    Attributes
    ----------
    command : In(stream.Signature(512))
        The raw command.
    index : In(16)
        Its index, for errors.
    a : Out(BufferRead(config))
    write : Out(stream.Signature(beat_write_layout(address_width, bus_width)))
    idle : Out(1)
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(8 * COMMAND_BYTES)),
                "index": In(16),
                "a": Out(BufferRead(config)),
                "write": Out(stream.Signature(beat_write_layout(config.address_width, config.bus_width))),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        return Module()
