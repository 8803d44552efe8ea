"""What happened in a simulated run, cycle by cycle: which command was where, and what the memory port did."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

#: What the memory port does in a cycle, in the order of `tailrace.hdl.control.probe.CycleUse`.
USES = ("commands", "vectors", "weights", "memory", "buffer", "fence", "drain", "next command")
#: Those of them that are beats; the others are stalls.
BEATS = 3


class EventKind(IntEnum):
    """What an event says, in the order of ``cpp/recorder.h``."""

    RUN_START = 0
    RUN_END = 1
    FETCH = 2
    MATRIX_START = 3
    MATRIX_FINISH = 4
    VECTOR_START = 5
    VECTOR_FINISH = 6


@dataclass(frozen=True)
class Span:
    """A command on a unit, from its first cycle up to the cycle `end`.

    `index` is that of the command in its queue.
    """

    index: int
    start: int
    end: int


@dataclass(frozen=True)
class Timeline:
    """A recording.

    Attributes
    ----------
    first_cycle, bucket_cycles : int
        Where the recording begins, and how many cycles a row of `uses` stands for.
    events : ndarray, shape (events,), fields cycle, kind, index
    uses : ndarray of int64, shape (buckets, 8)
        Cycles of runs with each of `USES`.
    levels : ndarray of float64, shape (buckets,)
        Mean number of beats in the read FIFO.
    """

    first_cycle: int
    bucket_cycles: int
    events: NDArray[np.void]
    uses: NDArray[np.int64]
    levels: NDArray[np.float64]

    def runs(self) -> list[tuple[int, int]]:
        """First cycle of each run, and the cycle after its last."""
        starts = self._cycles(EventKind.RUN_START)
        return list(zip(starts, self._cycles(EventKind.RUN_END), strict=False))

    def fetched(self) -> list[Span]:
        """The sequencer's commands, each from the end of the one before it."""
        ends = self._of(EventKind.FETCH)
        first = self._cycles(EventKind.RUN_START)
        spans, start = [], first[0] if first else self.first_cycle
        for cycle, index in ends:
            start = max([start, *(c for c in first if start < c <= cycle)])
            spans.append(Span(index, start, cycle + 1))
            start = cycle + 1
        return spans

    def executed(self, unit: str) -> list[Span]:
        """The commands of the ``matrix`` or the ``vector`` unit, one after the other.

        The matrix unit takes a command while the one before it is at work; it counts from the end of that one on.
        """
        starts = self._of(EventKind[f"{unit.upper()}_START"])
        ends = self._cycles(EventKind[f"{unit.upper()}_FINISH"])
        spans: list[Span] = []
        for (cycle, index), end in zip(starts, ends, strict=False):
            start = max(cycle, spans[-1].end) if spans else cycle
            spans.append(Span(index, start, max(end + 1, start + 1)))
        return spans

    def _of(self, kind: EventKind) -> list[tuple[int, int]]:
        chosen = self.events[self.events["kind"] == kind]
        return list(zip(chosen["cycle"].tolist(), chosen["index"].tolist(), strict=True))

    def _cycles(self, kind: EventKind) -> list[int]:
        return [int(cycle) for cycle in self.events["cycle"][self.events["kind"] == kind]]
