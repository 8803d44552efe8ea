"""Reads the command queue ahead of its use."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES, Opcode

from ..axi.signature import ReadKind, read_request_layout
from ..fifo import StreamFifo
from .layout import command_layout

#: Commands asked for ahead of their use: as reads are answered in order, a command must be asked for before the weights of the
#: product before it. Each is a read of its own, so that a bus error names its command.
AHEAD = 32


class CommandFetch(wiring.Component):
    """Fetch the commands of a queue in order, up to `AHEAD` commands ahead of the sequencer.

    A `LOOP` is expected to be taken: after it comes its target. So the first commands of the next turn, and what they read, are
    asked for while the last products of this one still stream.

    Room for a command's beats is kept before they are asked for, so command beats never block the read stream that they
    share with vectors and weights.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    start : in
        1 for one cycle: go on with command `index` of the queue at `address`, which has `length` commands: more than
        `index`, or none. What was fetched before is dropped, and so are the beats that are still on their way.
    address, length, index : in
    request : stream of read requests, out
    i : stream of bus beats, in
        The beats of the requests, in order.
    o : stream of {command: 512 bits, index: 16 bits}, out
        Whole commands, each 3 cycles after its last beat at the earliest.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "address": In(config.address_width),
                "length": In(16),
                "index": In(16),
                "request": Out(stream.Signature(read_request_layout(config.address_width))),
                "i": In(stream.Signature(config.unit_width)),
                "o": Out(stream.Signature(fetched_layout())),
            }
        )
        # State, as attributes because the formal proof states what it always satisfies.
        beats = COMMAND_BYTES // config.unit_bytes
        #: What is offered stays offered, even if a new start has made it useless.
        self.requests = StreamFifo(read_request_layout(config.address_width), 2)
        #: Commands that may still be asked for.
        self.room = Signal(range(AHEAD + 1), init=AHEAD)
        #: Beats that were asked for and have not come.
        self.outstanding = Signal(range(3 * AHEAD * beats + 1))
        #: Those of them that a new start has made useless.
        self.useless = Signal.like(self.outstanding)
        #: Whether there are any.
        self.drop = Signal()
        #: The next beat of the command that arrives.
        self.place = Signal(range(max(beats, 2)))
        self.fifo = StreamFifo(config.unit_width, AHEAD * beats)
        #: The next beat of the command that is put together, and whether one is complete.
        self.position, self.full = Signal(range(max(beats, 2))), Signal()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        beats = COMMAND_BYTES // config.unit_bytes
        requests, fifo, room = self.requests, self.fifo, self.room
        outstanding, useless, place = self.outstanding, self.useless, self.place
        position, full = self.position, self.full

        # The next command to ask for, and whether that is the end of the queue.
        queue, length, asked, ends = Signal(config.address_width), Signal(16), Signal(16), Signal(init=1)
        taken = Signal()
        jump = Signal()
        m.submodules.requests = requests
        wiring.connect(m, requests.o, wiring.flipped(self.request))
        wanted = ~ends & (room != 0)
        m.d.comb += [
            requests.i.valid.eq(wanted & ~self.start & ~jump),
            requests.i.payload.address.eq(queue + (asked << exact_log2(COMMAND_BYTES))),
            requests.i.payload.beats.eq(beats),
            requests.i.payload.kind.eq(ReadKind.COMMAND),
            requests.i.payload.command.eq(asked),
        ]
        issued = requests.i.valid & requests.i.ready
        arrived, drop = Signal(), self.drop

        # What the command that arrives is: known from its first beat, and wanted with its last.
        is_loop, loop_target = Signal(), Signal(16)
        arriving = command_layout(Opcode.LOOP)(Cat(self.i.payload, Const(0, 8 * COMMAND_BYTES - config.unit_width)))
        begins = arrived & ~drop & (place == 0)
        # A target that is not there is for the sequencer to complain about.
        known = [is_loop.eq((arriving.opcode == Opcode.LOOP) & (arriving.target < length)), loop_target.eq(arriving.target)]
        if beats == 1:
            m.d.comb += known
        else:
            with m.If(begins):
                m.d.sync += known
        with m.If(arrived & ~drop):
            m.d.sync += place.eq(Mux(place == beats - 1, 0, place + 1))
        m.d.comb += jump.eq(arrived & ~drop & (place == beats - 1) & is_loop)
        m.d.comb += arrived.eq(self.i.valid & self.i.ready)
        # A jump is known late. So sums do not wait for it, but are chosen from; kept, or synthesis makes one adder of two.
        more, stopped = (Signal.like(outstanding, name=name, attrs={"keep": True}) for name in ("more", "stopped"))
        fewer, same, back = (Signal.like(room, name=name, attrs={"keep": True}) for name in ("fewer", "same", "back"))
        m.d.comb += [
            more.eq(outstanding + beats - arrived),
            stopped.eq(outstanding - arrived),
            fewer.eq(_add(room, Const(-1, len(room)), taken)),
            same.eq(_add(room, Const(0, len(room)), taken)),
            # Of the last beat of a command that comes, and of whole commands behind it.
            back.eq(_add(room, ((outstanding - 1) if beats == 1 else outstanding >> exact_log2(beats))[: len(room)], taken)),
        ]
        with m.If(self.start):
            m.d.sync += [asked.eq(self.index), ends.eq(self.length == 0), place.eq(0), room.eq(AHEAD)]
        with m.Elif(jump):
            # A target is not the end.
            m.d.sync += [asked.eq(loop_target), ends.eq(0), room.eq(back)]
        with m.Else():
            m.d.sync += room.eq(Mux(wanted & requests.i.ready, fewer, same))
        with m.If(self.start):
            m.d.sync += [queue.eq(self.address), length.eq(self.length)]
        with m.Elif(issued & ~jump):
            m.d.sync += [asked.eq(asked + 1), ends.eq((asked + 1)[:16] == length)]
        m.d.sync += outstanding.eq(Mux(issued, more, stopped))
        with m.If(self.start | jump):
            m.d.sync += [useless.eq(stopped), drop.eq(stopped != 0)]
        with m.Elif(arrived & drop):
            m.d.sync += [useless.eq(useless - 1), drop.eq(useless != 1)]

        m.submodules.fifo = ResetInserter(self.start)(fifo)
        m.d.comb += [
            fifo.i.payload.eq(self.i.payload),
            fifo.i.valid.eq(self.i.valid & ~drop),
            # There is room for what was asked for, so nothing need be known of the buffer.
            self.i.ready.eq(1),
        ]

        command, index = Signal(8 * COMMAND_BYTES), Signal(16)
        m.d.comb += [
            self.o.valid.eq(full),
            self.o.payload.command.eq(command),
            self.o.payload.index.eq(index),
            taken.eq(full & self.o.ready),
            fifo.o.ready.eq(~full | self.o.ready),
        ]
        with m.If(taken):
            fetched = command_layout(Opcode.LOOP)(command)
            m.d.sync += [full.eq(0), index.eq(Mux(fetched.opcode == Opcode.LOOP, fetched.target, index + 1))]
        with m.If(fifo.o.valid & fifo.o.ready):
            m.d.sync += [
                command.eq((fifo.o.payload << (8 * COMMAND_BYTES - config.unit_width)) | (command >> config.unit_width)),
                full.eq(position == beats - 1),
                position.eq(Mux(position == beats - 1, 0, position + 1)),
            ]
        with m.If(self.start):
            m.d.sync += [index.eq(self.index), full.eq(0), position.eq(0)]
        return m


def _add(a: Value, b: Value, carry: Value) -> Value:
    """The sum of two numbers and a carry, in one carry chain."""
    return (Cat(Const(1, 1), a) + Cat(carry, b))[1 : 1 + len(a)]


def fetched_layout() -> data.StructLayout:
    """A command and its index in the queue."""
    return data.StructLayout({"command": 8 * COMMAND_BYTES, "index": 16})
