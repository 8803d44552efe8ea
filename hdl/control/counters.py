"""The performance counters."""

from typing import Any

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.registers import COUNTERS

from ..axi.signature import ReadKind

COUNTER_BITS = 64


class Counters(wiring.Component):
    """Count what each cycle of a run was used for.

    While `running` is 1, each cycle adds one to ``CYCLES`` and to exactly one of the beats and stalls: a read beat by
    its kind, else the first of memory, buffer, fence and drain whose input is 1, else command. Counts appear in `values` two
    cycles after the cycle that they count, so that the classification is not in the adders' path.

    Attributes
    ----------
    clear : in
        Set all counters to zero.
    running, beat, beat_kind, waiting, blocked, fence, drain, command, write_beat, matrix_busy, vector_busy : in
        Facts of this cycle.
    values : ArrayLayout(64, len(COUNTERS)), out
        In the order of `spec.registers.COUNTERS`.
    """

    clear: In(1)
    running: In(1)
    beat: In(1)
    beat_kind: In(ReadKind)
    waiting: In(1)
    blocked: In(1)
    fence: In(1)
    drain: In(1)
    command: In(1)
    write_beat: In(1)
    matrix_busy: In(1)
    vector_busy: In(1)
    values: Out(data.ArrayLayout(COUNTER_BITS, len(COUNTERS)))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        idle = ~self.beat
        count = {
            "CYCLES": Const(1),
            "COMMAND_BEATS": self.beat & (self.beat_kind == ReadKind.COMMAND),
            "VECTOR_BEATS": self.beat & (self.beat_kind == ReadKind.VECTOR),
            "WEIGHT_BEATS": self.beat & (self.beat_kind == ReadKind.WEIGHT),
            "STALL_MEMORY": idle & self.waiting,
            "STALL_BUFFER": idle & ~self.waiting & self.blocked,
            "STALL_FENCE": idle & ~self.waiting & ~self.blocked & self.fence,
            "STALL_DRAIN": idle & ~self.waiting & ~self.blocked & ~self.fence & self.drain,
            "STALL_COMMAND": idle & ~self.waiting & ~self.blocked & ~self.fence & ~self.drain,
            "COMMANDS": self.command,
            "WRITE_BEATS": self.write_beat,
            "MATRIX_BUSY": self.matrix_busy,
            "VECTOR_BUSY": self.vector_busy,
        }
        for i, (name, _) in enumerate(COUNTERS):
            step = Signal(name=f"step_{name.lower()}")
            m.d.sync += step.eq(count[name] & self.running & ~self.clear)
            with m.If(self.clear):
                m.d.sync += self.values[i].eq(0)
            with m.Elif(step):
                m.d.sync += self.values[i].eq(self.values[i] + 1)
        return m
