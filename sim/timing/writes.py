"""The write master: beats on their way to memory."""

from collections import deque
from collections.abc import Sequence

from . import latencies
from .memory import MemoryTiming


class Writes:
    """`WriteMaster`: a queue in front of the bus, and beats that wait for the memory's answer.

    Parameters
    ----------
    memory : MemoryTiming

    Attributes
    ----------
    answered : float
        When the memory has answered all of them.
    """

    def __init__(self, memory: MemoryTiming) -> None:
        self._memory = memory
        self._taken: deque[float] = deque([-1.0] * latencies.WRITES_QUEUED, maxlen=latencies.WRITES_QUEUED)
        self._answers: deque[float] = deque([-1.0] * latencies.WRITES_IN_FLIGHT, maxlen=latencies.WRITES_IN_FLIGHT)

    @property
    def answered(self) -> float:
        """When the last answer comes."""
        return self._answers[-1]

    def write(self, start: float, steps: Sequence[int], addresses: Sequence[int]) -> float:
        """Write a beat in some steps of an operation.

        Parameters
        ----------
        start : float
            The cycle before the first step.
        steps, addresses : sequence of int
            Of the beats.

        Returns
        -------
        float
            Cycles for which the operation must wait.
        """
        late = 0.0
        for step, address in zip(steps, addresses, strict=True):
            at = start + step + late
            # One waits in the register in front of the queue.
            room = max(self._answers[0], self._taken[0])
            if room > at:
                late += room - at
                at = room
            taken, answer = self._memory.write(max(at + latencies.WRITE_LATENCY, self._taken[-1] + 1), address)
            self._taken.append(taken)
            self._answers.append(answer)
        return late

    def shift(self, cycles: float) -> None:
        """Everything happens so much later."""
        self._taken = deque((cycle + cycles for cycle in self._taken), maxlen=self._taken.maxlen)
        self._answers = deque((cycle + cycles for cycle in self._answers), maxlen=self._answers.maxlen)
