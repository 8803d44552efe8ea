"""How many drafts to verify in a pass: as many as bring the most tokens for the time that they take."""

import statistics
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

#: What a row is thought to add to the time of a pass before one has been measured, as a part of a pass of one row.
_GUESS = 0.1
#: Passes of which the median counts, and passes after which a number of rows that none has had is as good as never measured:
#: whatever was beside it then may be gone.
_PASSES, _FORGOTTEN = 7, 512


class Costs:
    """Times of passes, by their rows, as they were measured lately."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}
        self._passes = 0
        self._last: dict[int, int] = {}

    def note(self, rows: int, seconds: float) -> None:
        """Note what a pass has taken."""
        self._passes += 1
        if self._passes - self._last.get(rows, 0) > _FORGOTTEN:
            self._seconds.pop(rows, None)
        self._seconds.setdefault(rows, deque(maxlen=_PASSES)).append(seconds)
        self._last[rows] = self._passes

    def of(self, rows: int) -> float:
        """Time of a pass with so many rows; its unit does not matter."""
        known = {
            count: statistics.median(times)
            for count, times in self._seconds.items()
            if self._passes - self._last[count] <= _FORGOTTEN
        }
        if rows in known:
            return known[rows]
        if not known:
            return 1 + _GUESS * (rows - 1)
        counts = sorted(known)
        if counts[0] < rows < counts[-1]:
            return float(np.interp(rows, counts, [known[count] for count in counts]))
        near = counts[0] if rows < counts[0] else counts[-1]
        one = known[near] / (1 + _GUESS * (near - 1))
        if len(counts) == 1:
            return one * (1 + _GUESS * (rows - 1))
        slope = (known[counts[-1]] - known[counts[0]]) / (counts[-1] - counts[0])
        return max(known[near] + slope * (rows - near), 1e-9)

    #: Passes after which what they took is believed.
    _BELIEVED = 3

    @property
    def are_known(self) -> bool:
        """Whether passes have been measured, more than one that something else may have slowed down; times are seconds then."""
        return self._passes >= self._BELIEVED

    def forget(self) -> None:
        """Begin anew."""
        self._seconds.clear()
        self._last.clear()
        self._passes = 0


def share(
    chances: Mapping[int, Sequence[float]], rows: int, spare: int, costs: Costs, spent: float = 0.0
) -> tuple[dict[int, int], float]:
    """Share the rows that a pass has left among drafts, or leave them empty where they cost more than they bring.

    Parameters
    ----------
    chances : mapping of int to sequence of float
        For each answer, and each of its drafts, how likely it is right if those before it are.
    rows : int
        Rows that the pass has anyway, a token each.
    spare : int
        Rows that it can have besides.
    costs : Costs
    spent : float
        Time that the drafts have taken, or will have.

    Returns
    -------
    dict of int to int
        Drafts to be verified of each answer that has some.
    float
        Tokens that are expected then for a unit of time.
    """
    gains = {answer: np.cumprod(of_drafts) for answer, of_drafts in chances.items()}
    taken = dict.fromkeys(chances, 0)
    tokens, best = float(rows), dict(taken)
    most = tokens / (spent + costs.of(rows))
    for more in range(1, spare + 1):
        left = {answer: gain[taken[answer]] for answer, gain in gains.items() if taken[answer] < len(gain)}
        if not left:
            break
        answer = max(left, key=left.__getitem__)
        taken[answer] += 1
        tokens += left[answer]
        if (found := tokens / (spent + costs.of(rows + more))) > most:
            most, best = found, dict(taken)
    return {answer: count for answer, count in best.items() if count}, most
