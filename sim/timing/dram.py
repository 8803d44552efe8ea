"""A DRAM channel behind a controller: when it answers bursts."""

from bisect import bisect_right
from collections import deque

from ..memory_models import Dram
from .dram_banks import Banks
from .memory import Arrivals, MemoryTiming

#: Bursts of which is kept when they were scheduled: more than can be on their way.
_BURSTS_KEPT = 4096


class DramMemory(MemoryTiming):
    """`DramTiming` of ``sim/cpp/dram.h``.

    The first accesses of a burst are scheduled one by one; in an open row the others follow. Reads and writes are told of in
    the order of the program, and writes come late: reads of commands after them may have been asked for before. So a batch of
    writes is scheduled before the next burst that is read, and how long it holds up writes is worked out apart, with the reads
    that had been asked for by then.

    Parameters
    ----------
    dram : Dram
    beat_bytes : int
        Bytes of an access.
    """

    step = 1.0

    def __init__(self, dram: Dram, beat_bytes: int) -> None:
        self._dram, self._beat_bytes = dram, beat_bytes
        self._banks = Banks(dram)
        # For bursts in their order: the clock in which each was asked for, and that of its last column command.
        self._asked: list[int] = []
        self._columns: list[int] = []
        self._gathered: list[tuple[int, int]] = []
        self._batches: deque[tuple[int, list[int]]] = deque()
        self._blocked = 0

    def read(self, cycle: float, address: int, beats: int, after: float) -> Arrivals:
        """A burst is accepted in a cycle."""
        dram, clocks = self._dram, self._dram.access_clocks
        start = int(cycle) * clocks
        self._write_old(start)
        while self._batches and self._batches[0][0] <= start:
            clock, accesses = self._batches.popleft()
            for access in accesses:
                self._banks.schedule(access, True, clock)
        access, answer = address // self._beat_bytes, dram.cl + clocks + dram.controller - dram.controller // 2
        arrivals: Arrivals = []
        done, last = 0, after
        while done < beats:
            count, column = self._banks.read(access + done, beats - done, start + dram.controller // 2)
            due = max(-(-(column + answer) // clocks), last + 1)
            if arrivals and arrivals[-1][0] + arrivals[-1][1] == due:
                arrivals[-1] = (arrivals[-1][0] + count, arrivals[-1][1])
            else:
                arrivals.append((count, due))
            done, last = done + count, due + count - 1
        self._note(start, self._banks.column)
        return arrivals

    def write(self, cycle: float, address: int) -> tuple[float, float]:
        """A beat is offered in a cycle."""
        dram, clocks = self._dram, self._dram.access_clocks
        taken = max(cycle, -(-self._blocked // clocks))
        clock = int(taken) * clocks
        self._write_old(clock)
        self._gathered.append((clock, address // self._beat_bytes))
        if len(self._gathered) >= dram.write_batch:
            self._write_all(clock + clocks)
        return taken, taken + -(-dram.controller // clocks)

    def stream(self, beats: int, arrived: float, slack: float) -> tuple[float, float]:
        """A long sequential read goes on."""
        dram, clocks, banks = self._dram, self._dram.access_clocks, self._banks
        gap = (dram.rtp + dram.rp + dram.rfc + dram.rcd) / clocks
        behind = (dram.cl + clocks + dram.controller - dram.controller // 2) / clocks
        reader = memory = 0.0
        clock, left = arrived - behind, beats
        while (until := max(banks.refresh_at / clocks - clock, 0.0)) <= left:
            left -= int(until)
            clock += int(until) + gap
            memory += gap
            reader += max(gap - slack, 0.0)
            slack = max(slack - gap, 0.0)
            banks.refresh_at += dram.refi
        banks.column = int((clock + left) * clocks)
        if self._asked:
            self._note(self._asked[-1] + int((beats + reader) * clocks), banks.column)
        return reader, memory

    def shift(self, cycles: float) -> None:
        """Everything happens so much later."""
        clocks = int(cycles * self._dram.access_clocks)
        self._banks.shift(clocks)
        self._asked = [clock + clocks for clock in self._asked]
        self._columns = [column + clocks for column in self._columns]
        self._gathered = [(clock + clocks, access) for clock, access in self._gathered]
        self._batches = deque((clock + clocks, accesses) for clock, accesses in self._batches)
        self._blocked += clocks

    def _note(self, asked: int, column: int) -> None:
        self._asked.append(asked)
        self._columns.append(column)
        if len(self._asked) > _BURSTS_KEPT:
            half = _BURSTS_KEPT // 2
            self._asked, self._columns = self._asked[-half:], self._columns[-half:]

    def _scheduled(self, clock: int) -> int:
        """The last column command of what had been asked for by a clock."""
        n = bisect_right(self._asked, clock)
        if n == 0:
            return clock
        if n == len(self._asked):
            return self._columns[-1]
        # Within a long read, of which only the ends are known.
        part = (clock - self._asked[n - 1]) / max(self._asked[n] - self._asked[n - 1], 1)
        return round(self._columns[n - 1] + part * (self._columns[n] - self._columns[n - 1]))

    def _write_old(self, clock: int) -> None:
        """Write what has been gathered, if it has waited too long."""
        if self._gathered and (due := self._gathered[0][0] + self._dram.write_age) <= clock:
            self._write_all(due)

    def _write_all(self, clock: int) -> None:
        accesses = [access for _, access in self._gathered]
        self._gathered.clear()
        self._batches.append((clock, accesses))
        alone = Banks(self._dram, 1 << 62)
        alone.column = self._scheduled(clock)
        for access in accesses:
            self._blocked = alone.schedule(access, True, clock)
