"""The read master and its FIFO: when the beats of each request arrive, and when they are taken."""

from collections import deque

from tailrace.spec.config import Config

from . import latencies
from .departures import Departures
from .memory import MemoryTiming

#: Bursts of a long read that are looked at one by one when its own beats are those that must leave the FIFO, before the others
#: follow as the last ones did; and at its end.
_STEADY, _END = 4, 3


class ReadStream:
    """All reads of a run, in their order, and what each takes: `ReadMaster`, its FIFO and the register behind it.

    Parameters
    ----------
    config : Config
    memory : MemoryTiming

    Attributes
    ----------
    beats : int
        Beats that were read.
    arrived : float
        When the last one arrived.
    """

    def __init__(self, config: Config, memory: MemoryTiming) -> None:
        self._memory, self._beat_bytes, self._burst = memory, config.beat_bytes, config.burst_beats
        self._unit_bytes, self._units = config.unit_bytes, config.beat_units
        self._room = config.read_fifo_beats + 1
        self._left = Departures()
        # Of the last burst, and the one before it: when it was asked for. Of the last beat: when it was taken by its unit.
        self._asked: tuple[float, float] = (-1.0, -1.0)
        self._planned = 0.0
        self._taken: tuple[float, float] = (-1.0, -1.0)
        self.arrived = -1.0
        #: When the read master saw the last requests through.
        self._noted: deque[float] = deque(maxlen=latencies.REQUESTS_IN_FLIGHT)
        self.beats = 0

    def shift(self, cycles: float) -> None:
        """Everything happens so much later."""
        self._left.shift(cycles)
        self._asked = (self._asked[0] + cycles, self._asked[1] + cycles)
        self._planned += cycles
        self._taken = (self._taken[0] + cycles, self._taken[1] + cycles)
        self.arrived += cycles
        self._noted = deque((cycle + cycles for cycle in self._noted), maxlen=self._noted.maxlen)
        self._memory.shift(cycles)

    def request(self, cycle: float, address: int, beats: int, begin: float, step: float = 1) -> tuple[float, float]:
        """Ask for beats that their unit takes at a steady rate.

        Parameters
        ----------
        cycle : float
            When the request is made.
        address, beats : int
        begin : float
            When the unit takes its first beat at the earliest.
        step : float
            Cycles from one beat to the next one there.

        Returns
        -------
        tuple of float
            When the read master took the request, and when the unit took the last beat.
        """
        taken = self._take(cycle)
        place, left, explicit = address // self._beat_bytes, beats, 0
        before = (0.0, 0.0, 0.0)
        settle = self._room // self._burst + _STEADY
        while left:
            count = min(left, self._burst - place % self._burst)
            self._ask(place * self._beat_bytes, count, begin, step)
            left -= count
            place += count
            explicit += 1
            now = (self._asked[0], self.arrived, self._taken[0])
            if explicit >= settle and left > 2 * _END * self._burst and step == 1:
                # The unit is at work, and each burst is asked for when one has left: the others follow at the same rate.
                if now[2] - before[2] <= self._burst * max(self._memory.step, 1) + 1:
                    skipped = (left - _END * self._burst) // self._burst * self._burst
                    self._skip(skipped)
                    left -= skipped
                    place += skipped
                    explicit = -1 << 30
            before = now
        self._end_request(taken)
        return taken, self._taken[0]

    def request_one_by_one(self, cycle: float, address: int, units: int, taker: "BeatTaker") -> float:
        """Ask for beats of vectors, of which a wide beat has several, that their unit takes as `taker` says.

        Returns when the read master took the request.
        """
        taken = self._take(cycle)
        place, skipped = address // self._beat_bytes, address % self._beat_bytes // self._unit_bytes
        left = -(-(skipped + units) // self._units)
        while left:
            count = min(left, self._burst - place % self._burst)
            self._plan()
            for number, first in self._arrivals(place * self._beat_bytes, count):
                for n in range(number):
                    given = max(first + n + latencies.READ_BEAT, self._left_last() + 1, self._taken[1] + 1)
                    there = max(given + latencies.BEATS_REGISTER, self._taken[0] + 1)
                    self._left.add(1, given)
                    of_beat = min(self._units - skipped, units)
                    for _ in range(of_beat):
                        last = taker.take(there)
                        there = last + 1
                    self._taken = (last, self._taken[0])
                    skipped, units = 0, units - of_beat
            left -= count
            place += count
        self._end_request(taken)
        return taken

    def _take(self, cycle: float) -> float:
        """When the read master takes a request that is made in a cycle."""
        full = self._noted[0] + 1 if len(self._noted) == self._noted.maxlen else 0.0
        taken = max(cycle, self._planned, full)
        self._planned = taken
        return taken

    def _end_request(self, taken: float) -> None:
        # It is forgotten when the beats of the one before it have come.
        self._noted.append(max(taken + 2, self._before))

    def _plan(self) -> None:
        """The next burst goes to the queue of two in front of the bus."""
        self._planned = max(self._planned + 1, self._asked[1] + 1)

    def _left_last(self) -> float:
        return self._left.cycle(self._left.beats - 1) if self._left.beats else -1.0

    def _arrivals(self, address: int, beats: int) -> list[tuple[int, float]]:
        """Ask for a burst as soon as the FIFO has room for it."""
        asked = max(self._planned + 1, self._asked[0] + 1)
        full = self._left.beats + beats - self._room
        if full > 0:
            asked = max(asked, self._left.cycle(full - 1) + 1)
        self._asked = (asked, self._asked[0])
        arrivals = self._memory.read(asked, address, beats, self.arrived)
        self._before = self.arrived
        count, first = arrivals[-1]
        self.arrived = first + count - 1
        self.beats += beats
        return arrivals

    def _ask(self, address: int, beats: int, begin: float, step: float) -> None:
        self._plan()
        ready = latencies.READ_BEAT + latencies.BEATS_REGISTER
        for count, arrived in self._arrivals(address, beats):
            first = max(arrived + ready, self._taken[0] + step, begin)
            # While the unit waits, the register behind the FIFO fills.
            ahead = 0
            while ahead < min(count, latencies.BEATS_REGISTER_DEPTH) and first > arrived + ready + ahead:
                given = max(arrived + ahead + latencies.READ_BEAT, self._left_last() + 1, self._taken[1] + 1)
                if given >= first + ahead * step - 1:
                    break
                self._left.add(1, given)
                self._taken = (first + ahead * step, self._taken[0])
                ahead += 1
            if count > ahead:
                self._left.add(count - ahead, first + ahead * step - 1, step)
                last = first + (count - 1) * step
                self._taken = (last, last - step if count > 1 else self._taken[0])

    def _skip(self, beats: int) -> None:
        slack = self._taken[0] - self.arrived - latencies.READ_BEAT - latencies.BEATS_REGISTER
        late, lost = self._memory.stream(beats, self.arrived, slack)
        took = beats + late
        start = self._taken[0] - 1
        # The FIFO's last beats are what later bursts wait for: these leave one a cycle.
        spread = max(beats - self._room, beats // 2)
        self._left.add(spread, start + 1, (spread + late) / spread)
        self._left.add(beats - spread, start + spread + late + 1)
        self._taken = (self._taken[0] + took, self._taken[0] + took - 1)
        self.arrived += max(took, beats + lost) if late else took
        self._asked = (self._asked[0] + took, self._asked[1] + took)
        self._planned += took
        self.beats += beats


class BeatTaker:
    """A unit that takes beats in its own time."""

    def take(self, cycle: float) -> float:
        """A beat is there from a cycle on: returns when it is taken."""
        raise NotImplementedError
