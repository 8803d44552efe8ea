"""Which commands are fetched when: ahead of their use, and as if every loop were taken."""

from collections import deque

from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES

from . import latencies
from .read_stream import ReadStream


class CommandFetch:
    """`tailrace.hdl.control.command_fetch`.

    Parameters
    ----------
    config : Config
    stream : ReadStream
    targets : sequence of int or None
        For each command of the program the target of a `LOOP`, None for any other one.
    address : int
        Of the program.
    """

    def __init__(self, config: Config, stream: ReadStream, targets: tuple[int | None, ...], address: int) -> None:
        self._stream, self._targets, self._address = stream, targets, address
        self._beats = COMMAND_BYTES // config.unit_bytes
        self._taken = -float(self._beats)
        self._ready: deque[float] = deque()
        self.start(0, 0)

    def start(self, cycle: float, index: int) -> None:
        """Forget what was fetched, and go on with a command from a cycle on."""
        self._ready.clear()
        self._next, self._last = index, cycle
        #: When each place for a command became free.
        self._free: deque[float] = deque([cycle] * latencies.COMMANDS_AHEAD)
        #: The last beat of a `LOOP` that has been asked for, and the commands asked for after it.
        self._jump: tuple[float, int] | None = None
        self._behind_jump = 0

    def advance(self, cycle: float) -> None:
        """Ask for all commands whose requests are made up to a cycle."""
        while (at := self._next_request(cycle)) is not None:
            self._issue(at)

    def take(self, cycle: float) -> float:
        """The next command is wanted from a cycle on: returns when it is taken."""
        while not self._ready:
            at = self._next_request(float("inf"))
            assert at is not None, "a command is waited for that nobody has asked for"
            self._issue(at)
        taken = max(cycle, self._ready.popleft(), self._taken + self._beats)
        self._taken = taken
        self._free.append(taken)
        return taken

    def shift(self, cycles: float) -> None:
        """Everything happens so much later."""
        self._taken += cycles
        self._last += cycles
        self._ready = deque(cycle + cycles for cycle in self._ready)
        self._free = deque(cycle + cycles for cycle in self._free)
        if self._jump:
            self._jump = (self._jump[0] + cycles, self._jump[1])

    def _next_request(self, until: float) -> float | None:
        """When the next command is asked for; None if that is later than a cycle, or there is none."""
        while True:
            possible = self._free and self._next < len(self._targets)
            at = max(self._last, self._free[0]) + 1 if possible else float("inf")
            if self._jump and self._jump[0] <= min(at, until):
                # The loop's target is known: what was asked for behind the loop is of no use, and its room is free.
                self._last = max(self._last, self._jump[0])
                self._free.extendleft([self._last] * self._behind_jump)
                self._next, self._jump, self._behind_jump = self._jump[1], None, 0
                continue
            return at if possible and at + 1 <= until else None

    def _issue(self, cycle: float) -> None:
        self._last = cycle
        self._free.popleft()
        index = self._next
        self._next += 1
        _, taken = self._stream.request(cycle + 1, self._address + index * COMMAND_BYTES, self._beats, 0)
        if self._jump:
            self._behind_jump += 1
            return
        self._ready.append(taken + latencies.COMMAND_ASSEMBLY)
        target = self._targets[index]
        if target is not None:
            self._jump = (taken, target)
