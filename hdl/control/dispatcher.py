"""Hands each operation to its unit, and lets it start when what it depends on is done."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.isa import ANY_PENDING, Opcode

from ..fifo import StreamFifo
from .checker import OPCODE_BITS
from .layout import command_layout, operation_layout
from .probe import unit_probe_layout

#: Operations that may wait for a unit: how far fetch runs ahead of execute. What one column of distributed memory holds.
QUEUE_DEPTH = 16
#: Bits of the counts of operations. Two of them are compared by their difference, which is true while they are less than half
#: of what the bits count apart.
COUNT_BITS = 8
#: A unit gets no more operations once it has been given so many since the other unit's first one that waits, or is at work.
MAX_LEAD = 1 << (COUNT_BITS - 2)
#: One more may come while it becomes known that it is so.
_LATE = 1
assert MAX_LEAD + _LATE + ANY_PENDING < 1 << (COUNT_BITS - 1)


class Dispatcher(wiring.Component):
    """Two queues, one for the matrix unit and one for the vector unit, each in program order.

    An operation notes how many operations of the other unit came before it. It starts when at most ``pending`` of these are
    unfinished: that depends on two counters only, whatever the operations are.

    A unit gets ahead of the other one by `MAX_LEAD` + 1 operations at most: when it has been given so many since the other
    unit's first operation that waits or is at work, the next one is not taken. That can't last, as the operation that is behind
    depends only on ones before it, which were taken, as their reads were. So counts of `COUNT_BITS` bits tell which of two is
    ahead, however long a program goes on.

    What a unit is offered is in registers, and so is whether it may start: the fields of an operation go to all of its unit.

    Latency: 3 cycles from `i` to the unit (queue, register, permission); 2 from an operation that is taken to the next one.

    Attributes
    ----------
    i : stream of operations, in
    matrix, vector : streams of operations, out
    matrix_finished, vector_finished : in
        1 for one cycle for each operation that is finished: its effects are seen by what starts in the next cycle.
    vector_unfinished : out
        Operations of the vector unit that have been taken and are not finished.
    idle : out
        Nothing waits or is unfinished.
    matrix_busy, vector_busy : out
        The unit has an operation that has started.
    command : out
        Index of the operation that started last; if only the vector unit has any left, that of its first one: what started last
        may have finished since. A register, two cycles behind.
    probe : out
        For timelines.
    """

    #: Cycles from `i` to the unit.
    latency = 3

    i: In(stream.Signature(operation_layout()))
    matrix: Out(stream.Signature(operation_layout()))
    vector: Out(stream.Signature(operation_layout()))
    matrix_finished: In(1)
    vector_finished: In(1)
    vector_unfinished: Out(COUNT_BITS)
    idle: Out(1)
    matrix_busy: Out(1)
    vector_busy: Out(1)
    command: Out(16)
    probe: Out(unit_probe_layout())

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        operation = command_layout(Opcode.GEMV)(self.i.payload.command)
        is_matrix = operation.opcode[:OPCODE_BITS] == Opcode.GEMV
        queued = data.StructLayout({"operation": operation_layout(), "before": COUNT_BITS})

        issued = {name: Signal(COUNT_BITS, name=f"{name}_issued") for name in ("matrix", "vector")}
        finished = {name: Signal(COUNT_BITS, name=f"{name}_finished_count") for name in ("matrix", "vector")}
        far = {name: Signal(name=f"{name}_far") for name in ("matrix", "vector")}
        idle = []
        latest = Signal(16)
        heads = {}
        for name, other, mine, out, done, busy in (
            ("matrix", "vector", is_matrix, self.matrix, self.matrix_finished, self.matrix_busy),
            ("vector", "matrix", ~is_matrix, self.vector, self.vector_finished, self.vector_busy),
        ):
            m.submodules[name] = queue = StreamFifo(queued, QUEUE_DEPTH)
            m.d.comb += [
                queue.i.valid.eq(self.i.valid & mine & ~far[name]),
                queue.i.payload.operation.eq(self.i.payload),
                queue.i.payload.before.eq(issued[other]),
            ]
            with m.If(mine):
                m.d.comb += self.i.ready.eq(queue.i.ready & ~far[name])
            # The next operation: what may start does not stop being allowed, as the other unit only gets on.
            held, held_valid = Signal(queued, name=f"{name}_held", reset_less=True), Signal(name=f"{name}_held_valid")
            allowed = Signal(name=f"{name}_allowed")
            with m.If(queue.i.valid & queue.i.ready):
                m.d.sync += issued[name].eq(issued[name] + 1)
            with m.If(done):
                m.d.sync += finished[name].eq(finished[name] + 1)

            # A register: it is neither in the way of `i.ready` nor of the units. It is late by the operation taken meanwhile.
            lead = Signal(COUNT_BITS, name=f"{other}_lead")
            oldest = Mux(held_valid, held.before, queue.o.payload.before)
            m.d.comb += lead.eq(issued[other] - oldest)
            m.d.sync += far[other].eq((held_valid | queue.o.valid) & (lead >= MAX_LEAD))

            # Negative if more are unfinished than may be. The other unit may be ahead: there is room for that, and `pending`.
            left = Signal(signed(COUNT_BITS), name=f"{other}_left")
            pending = command_layout(Opcode.GEMV)(held.operation.command).pending
            allowing = Signal(COUNT_BITS, name=f"{other}_allowing")
            started = Signal(COUNT_BITS, name=f"{name}_started")
            m.d.comb += [
                allowing.eq(finished[other] + pending),
                left.eq(allowing - held.before),
                out.valid.eq(allowed),
                out.payload.eq(held.operation),
                queue.o.ready.eq(~held_valid | (allowed & out.ready)),
                busy.eq(Mux(out.valid, 1, started != finished[name])),
            ]
            with m.If(queue.o.ready):
                m.d.sync += [held.eq(queue.o.payload), held_valid.eq(queue.o.valid), allowed.eq(0)]
            with m.Else():
                m.d.sync += allowed.eq((left >= 0) | (pending == ANY_PENDING))
            # An operation stays at the vector unit until it is finished; the matrix unit takes the next one while it works.
            offered = Signal(name=f"{name}_offered")
            m.d.sync += offered.eq(out.valid & ~out.ready)
            with m.If(out.valid & out.ready):
                m.d.sync += started.eq(started + 1)
            begins = Signal(name=f"{name}_begins")
            m.d.comb += [
                begins.eq(out.valid & (out.ready if name == "matrix" else ~offered)),
                self.probe[f"{name}_start"].eq(begins),
                self.probe[f"{name}_finish"].eq(done),
                self.probe[f"{name}_index"].eq(out.payload.index),
            ]
            with m.If(begins):
                m.d.sync += latest.eq(out.payload.index)
            heads[name] = held_valid, held.operation.index
            idle.append(issued[name] == finished[name])
        # What the vector unit is at stays here until it is finished.
        there, index = heads["vector"]
        m.d.sync += self.command.eq(Mux(idle[0] & there, index, latest))
        m.d.comb += [
            self.vector_unfinished.eq(issued["vector"] - finished["vector"]),
            self.idle.eq(idle[0] & idle[1]),
        ]
        return m
