"""The parts of the gateware that can be built by themselves."""

from typing import Any

from tailrace.spec.config import Config

#: A lane, the matrix-vector engine with its lanes, the whole core without its pins.
PARTS = ("lane", "engine", "core")


def make_part(part: str, config: Config) -> Any:
    """The component of a part, from `PARTS`.

    Raises
    ------
    ValueError
        If there is no such part.
    """
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
