"""Compares a core with the golden model: every byte of memory, and every counter that golden has."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailrace.golden.machine import Machine, Outcome
from tailrace.spec.errors import ErrorCode
from tailrace.spec.registers import COUNTERS

from .bench import Bench

#: What golden, which has no clock and fetches nothing ahead of a loop, does not count.
_CLOCKED = {
    name for name, _ in COUNTERS if name in ("CYCLES", "COMMAND_BEATS") or name.startswith("STALL_") or name.endswith("_BUSY")
}


class Scoreboard:
    """The golden model beside a bench.

    Parameters
    ----------
    bench : Bench

    Attributes
    ----------
    golden : Machine
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.golden = Machine(bench.config, bench.memory.bytes.copy())

    def place(self, image: NDArray[np.uint8]) -> None:
        """Put the same bytes into both memories, from address 0 on."""
        self._bench.memory.bytes[: image.size] = image
        self.golden.write(0, image)

    async def check(self, queue: int, length: int, arguments: Sequence[int] = (), what: str = "") -> Outcome:
        """Run the same commands on both, with what both memories hold.

        Parameters
        ----------
        queue, length, arguments
            See `Registers.ring`.
        what : str
            What runs, and the seed that it was drawn with, for messages.

        Returns
        -------
        Outcome
            How both ended.

        Raises
        ------
        AssertionError
            If anything is different.
        """
        bench = self._bench
        expected = self.golden.run(queue, length, arguments)
        outcome = await bench.run(queue, length, arguments)
        assert outcome == expected, f"{outcome} instead of {expected} {what}"
        wrong = np.flatnonzero(bench.memory.bytes != self.golden.memory)
        assert not wrong.size, f"memory differs in {wrong.size} bytes from {wrong[0]:#x} on {what}"
        counted = await bench.registers.counters()
        stalls = sum(count for name, count in counted.items() if name.startswith("STALL_"))
        beats = sum(counted[name] for name in ("COMMAND_BEATS", "VECTOR_BEATS", "WEIGHT_BEATS"))
        assert counted["CYCLES"] == stalls + beats, f"each cycle is a beat or a stall {what}"
        if expected.code is ErrorCode.NONE:
            for name in counted.keys() - _CLOCKED:
                count = self.golden.counters[name]
                assert counted[name] == count, f"{name} is {counted[name]}, not {count} {what}"
        return outcome
