"""What parts of the gateware take on an ECP5."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tailrace.hdl.ecp5 import Implementation, implement
from tailrace.spec.config import Config, parse_config

#: The parts that can be measured.
PARTS = ("lane", "engine", "core")


@dataclass(frozen=True)
class Area:
    """A part by itself, placed and routed.

    Attributes
    ----------
    part, config : str
    implementation : Implementation
    seconds : float
        Time that synthesis, placement and routing took.
    """

    part: str
    config: str
    implementation: Implementation
    seconds: float


def measure_area(parts: tuple[str, ...], config: str) -> Iterator[Area]:
    """Synthesise, place and route parts of a build, each by itself.

    Parameters
    ----------
    parts : tuple of str
        From `PARTS`: a lane, the matrix-vector engine with its lanes, the whole core without its pins.
    config : str

    Yields
    ------
    Area

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    for part in parts:
        start = time.perf_counter()
        implementation = implement(_component(part, parse_config(config)), part)
        yield Area(part, config, implementation, time.perf_counter() - start)


def _component(part: str, config: Config) -> object:
    if part == "lane":
        from tailrace.hdl.gemv.lane import Lane

        return Lane(config)
    if part == "engine":
        from tailrace.hdl.gemv.engine import GemvEngine

        return GemvEngine(config)
    if part == "core":
        from tailrace.hdl.core import Core

        return Core(config)
    raise ValueError(f"unknown part {part!r}: choose from {', '.join(PARTS)}")
