"""A component on an ECP5: cells after synthesis, frequency after place and route."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .families import FAMILIES
from .placement import place_and_route, require_nextpnr
from .process import Progress
from .synthesis import synthesise, write_design


@dataclass(frozen=True)
class Implementation:
    """What a component takes and how fast it is.

    Attributes
    ----------
    cells : dict of str to int
        Number of cells after synthesis, by what a data sheet calls them.
    megahertz : float
        Highest clock frequency after place and route, for paths from register to register.
    """

    cells: dict[str, int]
    megahertz: float


def implement(component: Any, *, target: float = 100.0, seed: int = 1, progress: Progress | None = None) -> Implementation:
    """Synthesise, place and route a component by itself, without pins.

    Parameters
    ----------
    component : Elaboratable
    target : float
        Frequency in MHz that place and route aims for.
    seed : int
        Of the placement.
    progress : callable, optional

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    require_nextpnr()
    with TemporaryDirectory(prefix="tailrace-") as text:
        folder = Path(text)
        write_design(component, folder)
        synthesis = synthesise(folder, FAMILIES["ecp5"], progress)
        timing = place_and_route(folder, target=target, seed=seed, progress=progress)
    return Implementation(synthesis.cells, timing.megahertz)
