"""Durations, counted by how long they are."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

#: Seconds up to which durations are counted together: from native code on a CPU to a simulated prefill.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0, 600.0, 3600.0)


class Histogram:
    """Counts of durations.

    Attributes
    ----------
    count : int
    sum : float
        In seconds.
    """

    def __init__(self) -> None:
        self.count, self.sum = 0, 0.0
        self._counts = [0] * (len(BOUNDS) + 1)

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.count, self.sum = self.count + 1, self.sum + seconds

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Yield bounds, and how many durations are not above each."""
        yield from zip([*(f"{bound:g}" for bound in BOUNDS), "+Inf"], accumulate(self._counts))
