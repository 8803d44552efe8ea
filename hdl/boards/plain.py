"""A board with plain ports: for simulations, and for boards that someone else describes."""

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

from .litedram import LiteDram
from .system import LEDS, System


class PlainBoard(wiring.Component):
    """`System` with its memory inside, and a clock and a reset from outside.

    Parameters
    ----------
    config : Config
    controller : LiteDram
        With a simulated memory.
    clock_hz : int
        What a host is told.
    clocks_per_bit : int
        Clock cycles that a bit lasts on the serial line.

    Attributes
    ----------
    clk, rst : in
        The clock, and a reset that is synchronous to it, active high.
    uart_rx : in
    uart_tx : out
    leds : out
    """

    def __init__(self, config: Config, controller: LiteDram, *, clock_hz: int, clocks_per_bit: int) -> None:
        self._system = System(config, controller, clock_hz=clock_hz, clocks_per_bit=clocks_per_bit)
        super().__init__(
            {"clk": In(1), "rst": In(1), "uart_rx": In(1, init=1), "uart_tx": Out(1, init=1), "leds": Out(len(LEDS))}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.system = system = self._system
        m.d.comb += [
            ClockSignal().eq(self.clk),
            ResetSignal().eq(self.rst),
            system.rx.eq(self.uart_rx),
            self.uart_tx.eq(system.tx),
            self.leds.eq(system.leds),
        ]
        return m
