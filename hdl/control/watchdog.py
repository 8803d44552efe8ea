"""Notices a memory that has stopped answering."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Watchdog(wiring.Component):
    """Raise `expired` after `limit` cycles of a run without progress.

    Attributes
    ----------
    running, progress : in
        The count starts again in every cycle in which `running` is 0 or `progress` is 1.
    limit : in
        Cycles; 0 means never.
    expired : out
    """

    running: In(1)
    progress: In(1)
    limit: In(32)
    expired: Out(1)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = Signal(32)
        # A register, as it stops everything: 1 when the count of the next cycle has reached the limit.
        reached = Signal()
        with m.If(~self.running | self.progress):
            m.d.sync += [count.eq(0), reached.eq(0)]
        with m.Elif(~reached):
            m.d.sync += [count.eq(count + 1), reached.eq((self.limit != 0) & (count + 1 >= self.limit))]
        m.d.comb += self.expired.eq(reached)
        return m
