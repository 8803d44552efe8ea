"""When each unit starts and finishes its operations: `Dispatcher`."""

from collections import deque

from tailrace.spec.isa import ANY_PENDING

from . import latencies


class Unit:
    """One of the two units, and the queue in front of it.

    Attributes
    ----------
    issued : int
        Operations that it was given.
    finished : float
        When the last of them was finished.
    earliest : float
        When the last one could have started if the unit had been free.
    """

    def __init__(self) -> None:
        self.issued = 0
        self._finishes: deque[float] = deque([-1.0] * (ANY_PENDING + 1), maxlen=ANY_PENDING + 1)
        # When the operations left the queue, and when the last one was taken by the unit.
        self._left: deque[float] = deque([-1.0] * latencies.QUEUE_DEPTH, maxlen=latencies.QUEUE_DEPTH)
        self._taken = -float(latencies.NEXT_OPERATION)
        self.earliest = -1.0

    @property
    def finished(self) -> float:
        """When the last operation is finished."""
        return self._finishes[-1]

    def issue(self, cycle: float) -> float:
        """An operation is handed over from a cycle on: returns when the queue takes it."""
        return max(cycle, self._left[0] + 1)

    def offer(self, issued: float, other: "Unit", pending: int) -> float:
        """When an operation that was issued in a cycle is offered to the unit, as far as the other unit lets it."""
        self.issued += 1
        self._left.append(max(issued + 1, self._taken))
        self.earliest = max(issued + latencies.DISPATCH, other.without(pending) + latencies.DEPENDENCY)
        return max(self.earliest, self._taken + latencies.NEXT_OPERATION)

    def without(self, pending: int) -> float:
        """When at most so many of the operations issued so far are unfinished."""
        return -1.0 if pending == ANY_PENDING or pending >= self.issued else self._finishes[-1 - pending]

    def taken(self, cycle: float) -> None:
        """The unit takes the operation that it was offered."""
        self._taken = cycle

    def finish(self, cycle: float) -> None:
        """The last operation is finished in a cycle."""
        self._finishes.append(cycle)

    def amend(self, cycle: float, behind: int = 0) -> None:
        """An operation, which stays at its unit until then, is finished in another cycle; `behind`: how many came after it."""
        self._finishes[-1 - behind] = cycle
        if behind:
            self._left[-behind] = max(self._left[-behind], cycle)
        else:
            self._taken = cycle

    def shift(self, cycles: float) -> None:
        """Everything happens so much later."""
        self._finishes = deque((cycle + cycles for cycle in self._finishes), maxlen=self._finishes.maxlen)
        self._left = deque((cycle + cycles for cycle in self._left), maxlen=self._left.maxlen)
        self._taken += cycles
        self.earliest += cycles
