"""What parts of the gateware take on an ECP5."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tailrace.hdl.toolchain.implementation import Implementation, implement
from tailrace.spec.config import parse_config

from ..fpga.parts import make_part


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
        From `tailrace.fpga.parts.PARTS`.
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
        implementation = implement(make_part(part, parse_config(config)))
        yield Area(part, config, implementation, time.perf_counter() - start)
