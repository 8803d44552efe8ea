"""What the top levels of boards have in common: `System` behind pads for the memory and a serial line."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io

from tailrace.spec.config import Config

from .board import clocks_per_bit
from .litedram import LiteDram
from .system import System


class BoardTop(Elaboratable):
    """A board's top level, without clocks, reset, lamps, and the names of its pins.

    Parameters
    ----------
    config : Config
        The build of the core.
    controller : LiteDram
    clock_hz : int
        Of clock domain ``sync``.

    Raises
    ------
    ConfigError
        If the serial line's rate can't be made from the clock.
    """

    def __init__(self, config: Config, controller: LiteDram, clock_hz: int) -> None:
        self._config, self._controller, self._clock_hz = config, controller, clock_hz
        self._clocks_per_bit = clocks_per_bit(clock_hz)

    def join_system(self, m: Module, platform: Any, pads: Mapping[str, Any]) -> System:
        """Add the system, joined to the memory's pads and to the serial line's pins."""
        m.submodules.system = system = System(
            self._config, self._controller, clock_hz=self._clock_hz, clocks_per_bit=self._clocks_per_bit, pads=pads
        )
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx, m.submodules.tx = rx, tx = io.Buffer("i", uart.rx), io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        return system


def read_pin(m: Module, platform: Any, name: str) -> Any:
    """Return what the first pin of this name reads."""
    m.submodules[name] = buffer = io.Buffer("i", platform.request(name, 0, dir="-"))
    return buffer.i
