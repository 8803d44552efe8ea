"""Programs for builds with less room than the device of a test has."""

from dataclasses import replace
from typing import Literal

from tailrace.firmware.decode import build_program
from tailrace.firmware.program import Program
from tailrace.spec.errors import LimitError
from tailrace.spec.isa import BUFFER_UNIT

from .model import Model, build_of

#: The activation buffer, or the vector slots.
Memory = Literal["buffer_entries", "vector_blocks"]
UNITS: dict[Memory, int] = {"buffer_entries": BUFFER_UNIT, "vector_blocks": 1}


def program_for(model: Model, rows: tuple[int, ...], *, logits: bool = True, **room: int) -> Program | None:
    """The program of a pass for a build with so much room in its memories, if it fits."""
    build = replace(build_of(model.config), **room)
    try:
        return build_program(model.description, model.placement, build, rows=rows, logits=logits, choose=False)
    except LimitError:
        return None


def least_room(model: Model, rows: tuple[int, ...], memory: Memory, *, logits: bool = True, **room: int) -> int:
    """The least room in a memory with which a pass fits; `room`: what others have."""
    unit, low, high = UNITS[memory], 0, getattr(model.config, memory)
    while high - low > unit:
        middle = (low + high) // 2 // unit * unit
        low, high = (low, middle) if program_for(model, rows, logits=logits, **{**room, memory: middle}) else (middle, high)
    return high
