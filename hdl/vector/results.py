"""The result router: where the results of a product go."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

from ..fifo import StreamFifo
from .result_buffer import RESULT_BITS, ResultWrite

#: Bits of a number of results: MAX_ROWS rows of up to 4 slots.
ENTRIES_BITS = 27


def route_command_layout(config: Config) -> data.StructLayout:
    """Send the next `entries` results (at least 1) to the result buffer from entry `offset` on if `keep`, else to memory."""
    return data.StructLayout({"keep": 1, "offset": range(config.result_entries), "entries": ENTRIES_BITS})


class ResultRouter(wiring.Component):
    """Pass results on to the write master or write them to the result buffer.

    Commands wait in a queue, so that the next product can be started before the last results of the one before it have
    come. Each command takes its own number of results; the next result belongs to the next command.

    Throughput: one result per cycle, also across commands. Latency: none from `i` to `o`; 1 cycle from `i` to `write`;
    2 cycles from a command to the first result that it lets in.

    Parameters
    ----------
    config : Config
    depth : int
        Commands that can wait, at least 2. One more is at work.

    Attributes
    ----------
    command : In(stream.Signature(route_command_layout(config)))
    i : In(stream.Signature(32))
        Results.
    o : Out(stream.Signature(32))
        Results for memory.
    write : Out(ResultWrite)
        Results for the result buffer.
    idle : Out(1)
        No command is offered, waiting or at work, and the result buffer holds what was sent to it.

    Raises
    ------
    ValueError
        If `depth` is less than 2.
    """

    def __init__(self, config: Config, depth: int = 4) -> None:
        if depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth}")
        self._config = config
        self._depth = depth
        super().__init__(
            {
                "command": In(stream.Signature(route_command_layout(config))),
                "i": In(stream.Signature(RESULT_BITS)),
                "o": Out(stream.Signature(RESULT_BITS)),
                "write": Out(ResultWrite(config)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = StreamFifo(route_command_layout(self._config), self._depth)
        wiring.connect(m, wiring.flipped(self.command), queue.i)

        # The command at work is counted down in registers of its own: a carry chain behind the queue's memory would be slow.
        active, keep, last = Signal(), Signal(), Signal()
        address = Signal(range(self._config.result_entries))
        left = Signal(ENTRIES_BITS)
        transfer = Signal()
        m.d.comb += [
            self.o.valid.eq(self.i.valid & active & ~keep),
            self.o.payload.eq(self.i.payload),
            self.i.ready.eq(active & (keep | self.o.ready)),
            transfer.eq(self.i.valid & self.i.ready),
            queue.o.ready.eq(~active | (transfer & last)),
        ]
        with m.If(transfer):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), last.eq(left == 2)]
        with m.If(queue.o.ready):
            m.d.sync += [
                active.eq(queue.o.valid),
                keep.eq(queue.o.payload.keep),
                address.eq(queue.o.payload.offset),
                left.eq(queue.o.payload.entries),
                last.eq(queue.o.payload.entries == 1),
            ]

        m.d.sync += self.write.enable.eq(transfer & keep)
        with m.If(transfer):
            m.d.sync += [self.write.address.eq(address), self.write.data.eq(self.i.payload)]
        m.d.comb += self.idle.eq(~(self.command.valid | queue.o.valid | active | self.write.enable))
        return m
