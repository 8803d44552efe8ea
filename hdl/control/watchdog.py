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
        with m.If(~self.running | self.progress):
            m.d.sync += count.eq(0)
        with m.Elif(~self.expired):
            m.d.sync += count.eq(count + 1)
        m.d.comb += self.expired.eq(self.running & (self.limit != 0) & (count >= self.limit))
        return m
