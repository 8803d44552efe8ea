"""When beats leave the read FIFO: a curve over the number of a beat."""

from bisect import bisect_right


class Departures:
    """Cycles in which beats leave, as runs of beats that leave at a steady rate.

    Beats are counted from 0 on, and asked for in rising order. What lies behind the last question is forgotten now and then.
    """

    #: Runs after which old ones are dropped.
    _MOST = 4096

    def __init__(self) -> None:
        self._first: list[int] = []
        self._cycle: list[float] = []
        self._step: list[float] = []
        #: Beats that have been told of.
        self.beats = 0

    def add(self, count: int, cycle: float, step: float = 1) -> None:
        """The next `count` beats leave from `cycle` on, each `step` cycles after the one before it."""
        if self._first and self._step[-1] == step and self._at(len(self._first) - 1, self.beats) == cycle:
            self.beats += count
            return
        self._first.append(self.beats)
        self._cycle.append(cycle)
        self._step.append(step)
        self.beats += count
        if len(self._first) > self._MOST:
            keep = self._MOST // 2
            self._first, self._cycle, self._step = self._first[-keep:], self._cycle[-keep:], self._step[-keep:]

    def cycle(self, beat: int) -> float:
        """When a beat leaves."""
        return self._at(bisect_right(self._first, beat) - 1, beat)

    def shift(self, cycles: float) -> None:
        """Everything happens so much later."""
        self._cycle = [cycle + cycles for cycle in self._cycle]

    def _at(self, run: int, beat: int) -> float:
        return self._cycle[run] + (beat - self._first[run]) * self._step[run]
