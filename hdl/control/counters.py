"""The performance counters."""

from typing import Any

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.registers import COUNTERS

from ..axi.signature import ReadKind
from .probe import CycleUse

COUNTER_BITS = 64
_BEATS = {
    "COMMAND_BEATS": (ReadKind.COMMAND, CycleUse.COMMAND_BEAT),
    "VECTOR_BEATS": (ReadKind.VECTOR, CycleUse.VECTOR_BEAT),
    "WEIGHT_BEATS": (ReadKind.WEIGHT, CycleUse.WEIGHT_BEAT),
}
_STALLS = {
    "STALL_MEMORY": CycleUse.MEMORY,
    "STALL_BUFFER": CycleUse.BUFFER,
    "STALL_FENCE": CycleUse.FENCE,
    "STALL_DRAIN": CycleUse.DRAIN,
    "STALL_COMMAND": CycleUse.COMMAND,
}


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
    use : out
        What this cycle is counted as.
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
    use: Out(CycleUse)
    values: Out(data.ArrayLayout(COUNTER_BITS, len(COUNTERS)))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        with m.If(self.beat):
            with m.Switch(self.beat_kind):
                for kind, use in _BEATS.values():
                    with m.Case(kind):
                        m.d.comb += self.use.eq(use)
        with m.Elif(self.waiting):
            m.d.comb += self.use.eq(CycleUse.MEMORY)
        with m.Elif(self.blocked):
            m.d.comb += self.use.eq(CycleUse.BUFFER)
        with m.Elif(self.fence):
            m.d.comb += self.use.eq(CycleUse.FENCE)
        with m.Elif(self.drain):
            m.d.comb += self.use.eq(CycleUse.DRAIN)
        with m.Else():
            m.d.comb += self.use.eq(CycleUse.COMMAND)
        count = {
            "CYCLES": Const(1),
            **{name: self.use == use for name, (_, use) in _BEATS.items()},
            **{name: self.use == use for name, use in _STALLS.items()},
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
