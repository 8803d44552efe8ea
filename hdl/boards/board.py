"""What makes a board: its top level, its memory, and what it runs at unless it is told."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tailrace.spec.config import Config
from tailrace.spec.errors import ConfigError

from .dram import Dram
from .litedram import LiteDram

#: Bits a second on the serial line.
BAUD = 3_000_000
#: How far the serial line's rate may be off.
_BAUD_TOLERANCE = 0.02


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes
    ----------
    name : str
    platform : str
        Module and class of its pins in `amaranth_boards`, with a colon between them.
    top : callable
        Makes the top level from the build of the core, the memory controller, and the clock in Hz.
    dram : Dram
    clock_hz : int
        The clock of core, link, and the memory's ports: a multiple of `BAUD`.
    config : str
        The build of the core.
    spread, seed : bool, int
        How nextpnr places it unless it is told: with all cells spread evenly before any place is legal or not, and from which
        seed on.
    """

    name: str
    platform: str
    top: Callable[[Config, LiteDram, int], Any]
    dram: Dram
    clock_hz: int
    config: str = "base"
    spread: bool = False
    seed: int = 1

    def make_platform(self) -> Any:
        """Return the pins."""
        module, _, name = self.platform.partition(":")
        return getattr(import_module(f"amaranth_boards.{module}"), name)()


def find_board(name: str) -> Board:
    """Find a board by the name of its module."""
    board: Board = import_module(f"tailrace.hdl.boards.{name}").BOARD
    return board


def clocks_per_bit(clock_hz: int, baud: int = BAUD) -> int:
    """Clock cycles for a bit on a serial line.

    Raises
    ------
    ConfigError
        If no number of cycles is within 2 % of the rate.
    """
    cycles = round(clock_hz / baud)
    if not cycles or abs(clock_hz / cycles / baud - 1) > _BAUD_TOLERANCE:
        raise ConfigError(f"{baud} baud can't be made from {clock_hz / 1e6:g} MHz: choose a multiple of {baud / 1e6:g} MHz")
    return cycles
