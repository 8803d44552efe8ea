"""Notices a memory that has stopped answering."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.registers import DEFAULT_WATCHDOG_CYCLES, NO_WATCHDOG


class Watchdog(wiring.Component):
    """Raise `expired` after `limit` cycles of a run without progress.

    Parameters
    ----------
    default : int
        What a limit of 0 stands for.

    Attributes
    ----------
    running, progress : in
        The count starts again in every cycle in which `running` is 0 or `progress` is 1.
    limit : in
        Cycles; `NO_WATCHDOG` means never. It may change while it counts, and the count knows of it a cycle later.
    expired : out
    """

    def __init__(self, default: int = DEFAULT_WATCHDOG_CYCLES) -> None:
        self._default = default
        super().__init__()

    running: In(1)
    progress: In(1)
    limit: In(32)
    expired: Out(1)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count, bound, never = Signal(32), Signal(32), Signal()
        m.d.sync += [bound.eq(Mux(self.limit.any(), self.limit, self._default)), never.eq(self.limit == NO_WATCHDOG)]
        # A register, as it stops everything: 1 when the count of the next cycle has reached the limit.
        reached = Signal()
        with m.If(~self.running | self.progress):
            m.d.sync += [count.eq(0), reached.eq(0)]
        with m.Elif(~reached):
            m.d.sync += [count.eq(count + 1), reached.eq(~never & (count + 1 >= bound))]
        m.d.comb += self.expired.eq(reached)
        return m
