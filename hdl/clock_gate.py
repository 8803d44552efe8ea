"""Stops the clock of a part that has nothing to do."""

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

#: Cycles for which the clock goes on after the last work: time for the last registered outputs to fall.
AFTERGLOW = 15


class ClockGate(wiring.Component):
    """Drives the clock domain `name`: the clock of ``sync``, but only while there is work, and for `AFTERGLOW` cycles after it.

    Whoever uses it defines the domain.

    The gate opens and closes while the clock is low, so an edge is there or is not, but never short. On an FPGA the same part
    runs on the ungated clock, or a clock buffer with an enable takes the place of this; a simulator skips what is not clocked.

    Parameters
    ----------
    name : str

    Attributes
    ----------
    work : in
        The part has work in this cycle, or is held in reset. Must depend on registers of ``sync`` alone.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__({"work": In(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains += ClockDomain("low", clk_edge="neg", reset_less=True, local=True)
        left = Signal(range(AFTERGLOW + 1), init=AFTERGLOW)
        with m.If(self.work):
            m.d.sync += left.eq(AFTERGLOW)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        opened = Signal(init=1)
        m.d.low += opened.eq(self.work | (left != 0) | ResetSignal())
        m.d.comb += [
            ClockSignal("low").eq(ClockSignal()),
            ClockSignal(self._name).eq(ClockSignal() & opened),
            ResetSignal(self._name).eq(ResetSignal()),
        ]
        return m
