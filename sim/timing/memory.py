"""When a memory answers reads and writes, burst by burst."""

from math import ceil
from typing import Protocol

#: Beats of a burst, or a part of one, that arrive without a gap: their number, and the cycle of the first.
Arrivals = list[tuple[int, float]]


class MemoryTiming(Protocol):
    """What a prediction asks of a memory.

    Attributes
    ----------
    step : float
        Cycles from one beat of a sequential read to the next one.
    """

    step: float

    def read(self, cycle: float, address: int, beats: int, after: float) -> Arrivals:
        """A burst is accepted in a cycle. Bursts come in the order in which they are accepted.

        Parameters
        ----------
        cycle : float
        address, beats : int
        after : float
            Cycle in which the last beat before it arrives.
        """

    def write(self, cycle: float, address: int) -> tuple[float, float]:
        """A beat is offered in a cycle: returns when it is taken, and when that is answered."""

    def stream(self, beats: int, arrived: float, slack: float) -> tuple[float, float]:
        """A long sequential read goes on for some beats.

        Parameters
        ----------
        beats : int
        arrived : float
            Cycle of the beat that arrived last.
        slack : float
            Cycles by which it was early for its reader.

        Returns
        -------
        tuple of float
            Cycles that the reader loses, and those that the memory does.
        """

    def shift(self, cycles: float) -> None:
        """Everything happens so much later."""


class FixedMemory(MemoryTiming):
    """`FixedTiming` of ``sim/cpp/timing.h``: a fixed latency and a fixed bandwidth.

    Parameters
    ----------
    latency : int
        Cycles.
    bandwidth : float
        Beats per cycle.
    """

    def __init__(self, latency: int, bandwidth: float = 1.0) -> None:
        self._latency, self.step = latency, 1 / bandwidth

    def read(self, cycle: float, address: int, beats: int, after: float) -> Arrivals:
        """A burst is accepted in a cycle."""
        first = max(cycle + self._latency, after + self.step)
        if self.step == 1:
            return [(beats, first)]
        return [(1, ceil(first + n * self.step)) for n in range(beats)]

    def write(self, cycle: float, address: int) -> tuple[float, float]:
        """A beat is offered in a cycle."""
        return cycle, cycle + self._latency

    def stream(self, beats: int, arrived: float, slack: float) -> tuple[float, float]:
        """A long sequential read goes on."""
        lost = beats * (self.step - 1)
        return max(lost - slack, 0.0), lost

    def shift(self, cycles: float) -> None:
        """Nothing here has a time of its own."""
