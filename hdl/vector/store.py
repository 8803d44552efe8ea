"""The store: entries of the result buffer on their way to memory."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

from .result_buffer import RESULT_BITS, ResultRead


def store_command_layout(config: Config) -> data.StructLayout:
    """Read `entries` entries (at least 1) of the result buffer from entry `offset` on."""
    return data.StructLayout({"offset": range(config.result_entries), "entries": range(config.result_entries + 1)})


class Store(wiring.Component):
    """Read the result buffer and send what is read out as a stream.

    A command stays at `command` until its last entry has been taken from `o`. While `o` is stalled the entry that it shows
    is read again and again: that holds it without a register.

    Throughput: one entry per cycle, with or without stalls; one cycle without an entry between commands.
    Latency: 1 cycle from a command to its first entry.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(store_command_layout(config)))
    read : Out(ResultRead)
        The buffer must not be written where a command reads, and belongs to the store, from `command.valid` until `idle`.
    o : Out(stream.Signature(32))
    idle : Out(1)
        No command is offered or at work.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(store_command_layout(config))),
                "read": Out(ResultRead(config)),
                "o": Out(stream.Signature(RESULT_BITS)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        command = self.command
        # The entry that `o` shows, the one after it, and how many are left including the one shown.
        address = Signal(range(self._config.result_entries))
        following = Signal.like(address)
        left = Signal(range(self._config.result_entries + 1))
        valid = Signal()

        m.d.comb += [
            self.o.valid.eq(valid),
            self.o.payload.eq(self.read.data),
            self.idle.eq(~command.valid),
        ]
        with m.If(~valid):
            m.d.comb += self.read.address.eq(command.payload.offset)
            m.d.sync += [
                valid.eq(command.valid),
                left.eq(command.payload.entries),
            ]
        with m.Else():
            m.d.comb += self.read.address.eq(Mux(self.o.ready, following, address))
            with m.If(self.o.ready):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 1):
                    m.d.comb += command.ready.eq(1)
                    m.d.sync += valid.eq(0)
        m.d.sync += [
            address.eq(self.read.address),
            following.eq(self.read.address + 1),
        ]
        return m
