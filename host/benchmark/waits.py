"""What the memory port waited for, told from a recording: the cause of each idle cycle, and the vector work behind it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.program import Program
from tailrace.sim.timeline import BEATS, USES, Timeline
from tailrace.spec.commands import decode
from tailrace.spec.floats import Function
from tailrace.spec.isa import Multiplier, Opcode, Reduce

#: For stalls during which the vector unit had nothing to do.
NO_WORK = ""
_BY_OPCODE = {
    Opcode.ROTATE: "RoPE",
    Opcode.APPEND: "append to the KV cache",
    Opcode.STORE: "store",
    Opcode.READ: "read of a register",
    Opcode.LOAD_VECTOR: "load of a vector",
}
_BY_REDUCTION = {
    Reduce.SUM_OF_SQUARES: "norm",
    Reduce.MAXIMUM: "softmax",
    Reduce.ABSOLUTE_MAXIMUM: "quantising K and V",
    Reduce.ARGMAX: "argmax",
    Reduce.ARGMAX_REMOVE: "choice of experts",
}
_BY_FUNCTION = {
    Function.EXP: "softmax",
    Function.RECIPROCAL: "division",
    Function.RECIPROCAL_SQUARE_ROOT: "norm",
    Function.SIGMOID: "activation",
}


def work_of(command: bytes) -> str:
    """What a command of the vector unit is for, in a word or two."""
    decoded = decode(command)
    if decoded is None:
        return "invalid"
    opcode, fields = decoded
    if opcode is not Opcode.ELEMENTWISE:
        return _BY_OPCODE.get(opcode, opcode.name)
    return _elementwise(fields)


def _elementwise(fields: Mapping[str, Any]) -> str:
    get = {**dict.fromkeys(("reduce", "function", "combine", "multiplier", "a_stream", "target"), 0), **fields}
    for table, key in ((_BY_REDUCTION, get["reduce"]), (_BY_FUNCTION, get["function"])):
        if key in table:
            return table[key]
    if get["multiplier"] == Multiplier.STREAM:
        return "norm"
    return "load of a table" if get["a_stream"] else "elementwise work"


def part_of(program: Program, index: int) -> str:
    """The part of a layer, or of a token, that a command belongs to."""
    name = next((text for start, text in reversed(program.sections) if start <= index), "")
    return name.rpartition(": ")[2]


def waits(timeline: Timeline, program: Program, first: int, end: int) -> dict[tuple[str, str], float]:
    """Idle cycles of the port from cycle `first` up to `end`, by cause and by the vector work at hand.

    Parameters
    ----------
    timeline : Timeline
        One run.
    program : Program
        What ran.
    first, end : int

    Returns
    -------
    dict of (str, str) to float
        A cause is one of `tailrace.sim.timeline.USES`; the work is for example ``feed-forward: norm``, or `NO_WORK`. Where
        several commands fall into a bucket of the recording, the one that ends in it counts.
    """
    spans = timeline.executed("vector")
    labels = [f"{part_of(program, s.index)}: {work_of(program.commands[s.index])}" for s in spans]
    ends = np.array([s.end for s in spans], dtype=np.int64)
    found: Counter[tuple[str, str]] = Counter()
    width = timeline.bucket_cycles
    rows = range(
        max((first - timeline.first_cycle) // width, 0), min(-(-(end - timeline.first_cycle) // width), len(timeline.uses))
    )
    for row in rows:
        stalls = timeline.uses[row, BEATS:]
        if not stalls.any():
            continue
        start = timeline.first_cycle + row * width
        part = (min(end, start + width) - max(first, start)) / width
        place = int(np.searchsorted(ends, start, side="right"))
        at_work = place < len(spans) and spans[place].start < start + width
        for cause, count in zip(USES[BEATS:], stalls.tolist(), strict=True):
            if count:
                found[cause, labels[place] if at_work else NO_WORK] += part * count
    return dict(found)


def uses_until(timeline: Timeline, cycles: list[int]) -> NDArray[np.float64]:
    """What the port did up to each of some cycles, shape (cycles, 8); within a bucket in proportion."""
    total = np.vstack([np.zeros(len(USES)), np.cumsum(timeline.uses, axis=0)])
    place = (np.asarray(cycles) - timeline.first_cycle) / timeline.bucket_cycles
    columns = [np.interp(place, np.arange(len(total)), total[:, use]) for use in range(len(USES))]
    return np.stack(columns, axis=1)
