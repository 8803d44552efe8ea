"""The beats that the vector unit takes from memory, and the FIFO in which they wait for it."""

from collections import deque
from collections.abc import Iterable, Iterator

from . import latencies
from .read_stream import BeatTaker

_ROOM = latencies.PARAMETER_BEATS + latencies.PARAMETER_REGISTER


class ParameterBeats(BeatTaker):
    """Beats of parameters: each is used up word by word, as the operation at work gets to it."""

    def __init__(self) -> None:
        # When the unit was done with the last beats.
        self._used: deque[float] = deque([-1.0] * _ROOM, maxlen=_ROOM)
        self._plan: Iterator[tuple[int, int, bool]] = iter(())
        self._last = 0.0
        #: When the last word of each segment was taken.
        self.ends: list[float] = []

    def begin(self, start: float, plan: Iterable[tuple[int, int, bool]]) -> None:
        """An operation begins.

        Parameters
        ----------
        start : float
            Its first cycle.
        plan : iterable of (int, int, bool)
            For each of its beats: steps before it that need none, its words, and whether they are the last of a segment.
        """
        self._plan, self._last, self.ends = iter(plan), start, []

    def take(self, cycle: float) -> float:
        """A beat is there from a cycle on: returns when it is taken."""
        before, words, ends = next(self._plan)
        taken = max(cycle, self._used[0] + 1)
        there = taken + latencies.PARAMETER_LATENCY
        # What is padding is thrown away, a beat in each cycle.
        used = max(self._last + before + 1, there) + max(words - 1, 0)
        self._last = used
        if ends:
            self.ends.append(used)
        self._used.append(used)
        return taken

    def shift(self, cycles: float) -> None:
        """Everything happens so much later."""
        self._used = deque((cycle + cycles for cycle in self._used), maxlen=_ROOM)
