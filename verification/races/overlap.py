"""Overlap of the two units: how far a command may run ahead of the other unit's unfinished ones, and whether a program is safe.

`tailrace.spec.isa` states the rules: each unit works in order; a command's ``pending`` field says how many of the *other*
unit's commands before it may be unfinished when it starts; what is written to memory is seen by reads after a `FENCE` that
waits for the write.

A program with loops or modifiers is examined as it is executed: the commands in the order in which they run, modifiers
applied, as a device's trace reports them. A command that runs more than once takes the smallest of its values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.commands import decode, format_command
from tailrace.spec.config import Config
from tailrace.spec.isa import ANY_PENDING, VECTOR_OPCODES, Opcode

from .regions import Interval, Regions, regions

_SETS = 4


def largest_pending(commands: Sequence[bytes], config: Config) -> list[int]:
    """For each command the largest ``pending`` that is safe.

    Parameters
    ----------
    commands : sequence of bytes
        Valid commands in the order in which they run, modifiers applied.
    config : Config

    Returns
    -------
    list of int
        0 to 15: 15 if no command of the other unit before it concerns it, or, for a `FENCE`, no write that a later read needs;
        0 for commands without the field.
    """
    result = []
    fences: list[int] = []
    for step in _walk(commands, config):
        if step.opcode is Opcode.FENCE:
            fences.append(step.index)
            result.append(ANY_PENDING)
        elif step.opcode in (Opcode.SET, Opcode.LOOP):
            result.append(0)
        else:
            safe = ANY_PENDING if step.conflict is None else min(step.others - step.conflict.number, ANY_PENDING - 1)
            result.append(safe)
        if step.source is not None:
            # The last fence between the write and this read is the one that has to cover it.
            between = [fence for fence in fences if fence > step.source.index]
            if between:
                fence = between[-1]
                later = step.vector_before[fence] - step.source.number
                result[fence] = min(result[fence], later, ANY_PENDING - 1)
    return result


def largest_pending_by_index(trace: Sequence[tuple[int, bytes]], config: Config) -> dict[int, int]:
    """For each command of a program that ran the largest ``pending`` that was safe whenever it was carried out.

    Parameters
    ----------
    trace : sequence of tuple of (int, bytes)
        Index and resolved command of everything that was carried out, as a device's trace reports it.
    config : Config
    """
    result: dict[int, int] = {}
    safe = largest_pending([command for _, command in trace], config)
    for (index, _), pending in zip(trace, safe, strict=True):
        result[index] = min(result.get(index, ANY_PENDING), pending)
    return result


def races(commands: Sequence[bytes], config: Config) -> list[str]:
    """What is unsafe in a program.

    Parameters
    ----------
    commands : sequence of bytes
        Valid commands in the order in which they run, modifiers applied.
    config : Config

    Returns
    -------
    list of str
        A message for each command that may start too early, and for each read of memory that no `FENCE` guards.
    """
    found = []
    # How many commands of the other unit are certain to be finished when a unit's latest command starts: it only grows.
    finished = {True: 0, False: 0}
    # For each fence its place, and how many vector commands it waits for.
    fences: list[tuple[int, int]] = []
    for step in _walk(commands, config):
        fields = step.fields
        if step.opcode is Opcode.FENCE:
            waited = 0 if fields["pending"] == ANY_PENDING else max(step.others - fields["pending"], 0)
            fences.append((step.index, waited))
            continue
        if step.opcode in (Opcode.SET, Opcode.LOOP):
            continue
        unit = step.opcode in VECTOR_OPCODES
        if fields["pending"] != ANY_PENDING:
            finished[unit] = max(finished[unit], step.others - fields["pending"])
        if step.conflict is not None and finished[unit] < step.conflict.number:
            found.append(
                f"command {step.index} ({_name(commands, step.index)}) may start before command {step.conflict.index}"
                f" ({_name(commands, step.conflict.index)}) has finished, and both use {step.conflict.what}:"
                f" its pending must be at most {min(step.others - step.conflict.number, ANY_PENDING - 1)}"
            )
        source = step.source
        if source is not None and not any(at > source.index and waited >= source.number for at, waited in fences):
            found.append(
                f"command {step.index} ({_name(commands, step.index)}) reads memory that command {source.index}"
                f" ({_name(commands, source.index)}) wrote, {source.what}: a FENCE that waits for it must come between them"
            )
    return found


def _name(commands: Sequence[bytes], index: int) -> str:
    return format_command(commands[index]).split()[0]


@dataclass(frozen=True)
class _Earlier:
    """An earlier command: its index, its number in its unit (from 1 on), and what both touch."""

    index: int
    number: int
    what: str


@dataclass(frozen=True)
class _Step:
    """A command, and what it depends on.

    Attributes
    ----------
    others : int
        Commands of the other unit before it; for a fence those of the vector unit.
    conflict : _Earlier or None
        The last command of the other unit that touches the same place, one of the two writing.
    source : _Earlier or None
        The last command that wrote memory that this one reads.
    vector_before : dict of int to int
        For each fence the number of vector commands before it.
    """

    index: int
    opcode: Opcode
    fields: dict[str, int]
    others: int
    conflict: _Earlier | None
    source: _Earlier | None
    vector_before: dict[int, int]


class _Places:
    """For each place the number of the last command that touched it."""

    def __init__(self, size: int) -> None:
        self._last: NDArray[np.int64] = np.zeros(size, dtype=np.int64)

    def _parts(self, interval: Interval) -> Iterable[slice]:
        start, end = interval
        size = len(self._last)
        if end - start >= size:
            return (slice(0, size),)
        start, end = start % size, (end - 1) % size + 1
        return (slice(start, end),) if start < end else (slice(start, size), slice(0, end))

    def touch(self, interval: Interval, number: int) -> None:
        for part in self._parts(interval):
            self._last[part] = number

    def last(self, interval: Interval) -> int:
        return max(int(self._last[part].max()) for part in self._parts(interval))


class _Spans:
    """The same for bytes of memory: a list of intervals."""

    def __init__(self) -> None:
        self._starts: NDArray[np.int64] = np.zeros(64, dtype=np.int64)
        self._ends, self._numbers = self._starts.copy(), self._starts.copy()
        self._used = 0
        self._known: dict[Interval, int] = {}

    def touch(self, interval: Interval, number: int) -> None:
        at = self._known.get(interval)
        if at is None:
            at = self._known[interval] = self._used
            self._used += 1
            if at == len(self._starts):
                self._starts, self._ends, self._numbers = (
                    np.concatenate((a, np.zeros_like(a))) for a in (self._starts, self._ends, self._numbers)
                )
        self._starts[at], self._ends[at], self._numbers[at] = *interval, number

    def last(self, interval: Interval) -> int:
        start, end = interval
        used = self._used
        hit = (self._starts[:used] < end) & (self._ends[:used] > start)
        return int(self._numbers[:used][hit].max(initial=0))


@dataclass
class _Unit:
    """What a unit's commands so far have touched. `indices` are their places in the program."""

    config: Config
    indices: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = self.config
        self.buffer_reads, self.buffer_writes = (_Places(config.buffer_entries) for _ in range(2))
        self.slot_reads, self.slot_writes = (
            [_Places(config.vector_blocks) for _ in range(config.right_hand_sides)] for _ in range(2)
        )
        self.base_reads, self.base_writes = ([_Places(_SETS) for _ in range(config.right_hand_sides)] for _ in range(2))
        self.memory_reads, self.memory_writes = _Spans(), _Spans()

    def add(self, index: int, touched: Regions) -> None:
        self.indices.append(index)
        number = len(self.indices)
        for name in ("buffer_reads", "buffer_writes", "memory_reads", "memory_writes"):
            for interval in getattr(touched, name):
                getattr(self, name).touch(interval, number)
        for name in ("slot_reads", "slot_writes"):
            for slot, interval in getattr(touched, name):
                getattr(self, name)[slot].touch(interval, number)
        for name in ("base_reads", "base_writes"):
            for slot, one in getattr(touched, name):
                getattr(self, name)[slot].touch((one, one + 1), number)

    def conflict(self, touched: Regions) -> _Earlier | None:
        """The last of this unit's commands that a command of the other unit must not run beside."""
        numbers = {"the activation buffer": 0, "a vector slot": 0, "a base exponent": 0, "memory": 0}

        def see(what: str, number: int) -> None:
            numbers[what] = max(numbers[what], number)

        for interval in touched.buffer_reads:
            see("the activation buffer", self.buffer_writes.last(interval))
        for interval in touched.buffer_writes:
            see("the activation buffer", max(self.buffer_writes.last(interval), self.buffer_reads.last(interval)))
        for slot, interval in touched.slot_reads:
            see("a vector slot", self.slot_writes[slot].last(interval))
        for slot, interval in touched.slot_writes:
            see("a vector slot", self.slot_reads[slot].last(interval))
        for slot, one in touched.base_reads:
            see("a base exponent", self.base_writes[slot].last((one, one + 1)))
        for slot, one in touched.base_writes:
            see("a base exponent", self.base_reads[slot].last((one, one + 1)))
        for interval in touched.memory_writes:
            see("memory", self.memory_reads.last(interval))
        what, number = max(numbers.items(), key=lambda item: item[1])
        return _Earlier(self.indices[number - 1], number, what) if number else None

    def source(self, touched: Regions) -> _Earlier | None:
        """The last of this unit's commands that wrote what a command reads from memory."""
        last, where = 0, (0, 0)
        for interval in touched.memory_reads:
            number = self.memory_writes.last(interval)
            if number > last:
                last, where = number, interval
        return _Earlier(self.indices[last - 1], last, f"between {where[0]:#x} and {where[1]:#x}") if last else None


def _walk(commands: Sequence[bytes], config: Config) -> Iterable[_Step]:
    matrix, vector = _Unit(config), _Unit(config)
    vector_before: dict[int, int] = {}
    for index, command in enumerate(commands):
        decoded = decode(command)
        if decoded is None:
            raise ValueError(f"command {index} is invalid: opcode {command[0]}")
        opcode, fields = decoded
        if opcode in (Opcode.SET, Opcode.LOOP):
            yield _Step(index, opcode, fields, 0, None, None, vector_before)
            continue
        if opcode is Opcode.FENCE:
            vector_before[index] = len(vector.indices)
            yield _Step(index, opcode, fields, len(vector.indices), None, None, vector_before)
            continue
        own, other = (vector, matrix) if opcode in VECTOR_OPCODES else (matrix, vector)
        touched = regions(command, config)
        source = vector.source(touched)
        yield _Step(index, opcode, fields, len(other.indices), other.conflict(touched), source, vector_before)
        own.add(index, touched)
