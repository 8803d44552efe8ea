"""Writes a program command by command: registers, loops, addresses, and how far each command may overlap with others."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType

from tailrace.spec.commands import encode, float_bits
from tailrace.spec.errors import LimitError
from tailrace.spec.floats import Function
from tailrace.spec.isa import (
    ADDRESS_UNIT,
    ANY_PENDING,
    ARGUMENTS,
    FIRST_ARGUMENT,
    MAX_COMMANDS,
    MODIFIERS,
    REGISTERS,
    VECTOR_OPCODES,
    Cache,
    Combine,
    Multiplier,
    Opcode,
    Reduce,
    SetMode,
    Target,
)

from .footprint import Footprint, Places
from .placement import Build
from .program import NO_TRAFFIC, Program, Traffic

#: The word of the first scalar of an `ELEMENTWISE`; those of the others follow.
_SCALAR_WORD = 8


@dataclass(frozen=True)
class Address:
    """A place in memory: a byte address, plus what registers hold in units of 64 bytes."""

    byte: int
    registers: tuple[int, ...] = ()

    def __add__(self, distance: int) -> "Address":
        return replace(self, byte=self.byte + distance)


@dataclass(frozen=True)
class Length:
    """A length that a register holds, and the largest that it can be.

    It is that of the cached tokens but the first `before`; with a `period` it begins anew after so many tokens.
    """

    register: int
    largest: int
    period: int = 0
    before: int = 0


@dataclass(frozen=True)
class BlockAt:
    """A block of the vector slots that a register is added to; it and all behind it are among the `span` from `first` on."""

    first: int
    register: int
    span: int


@dataclass(frozen=True)
class Loaded:
    """A scalar in the activation buffer; with `advance` each segment has the next one.

    With a `register` it is the one of `reach` entries whose number that holds.
    """

    entry: int
    advance: bool = False
    register: int | None = None
    reach: int = 1


@dataclass(frozen=True)
class Slot:
    """Where in the vector slots a result is quantised to."""

    slot: int
    vector_set: int
    first_block: int
    next_slot: bool = False
    duplicate: bool = False
    join: bool = False


Scalar = float | Loaded
#: What emits a product, and what emits the vector work on its results.
Stage = tuple[Callable[[], None], Callable[[], None]]


@dataclass
class _Entry:
    opcode: Opcode
    fields: dict[str, int]
    modifiers: tuple[tuple[int, int], ...]
    footprint: Footprint
    traffic: Traffic
    repeats: int


class CommandList:
    """A program under construction.

    Parameters
    ----------
    build : Build
    overlap : bool
        Whether the units may overlap; else every command waits for all before it.
    """

    def __init__(self, build: Build, overlap: bool = True) -> None:
        self._build, self._overlap = build, overlap
        self._places = Places(build)
        self._entries: list[_Entry] = []
        self._sections: list[tuple[int, str]] = []
        self._registers = [r for r in range(1, REGISTERS) if not FIRST_ARGUMENT <= r < FIRST_ARGUMENT + ARGUMENTS]
        self._repeats = 1
        self._steps_command: int | None = None

    def section(self, text: str) -> None:
        """Name what follows, for people."""
        self._sections.append((len(self._entries), text))

    def register(self, purpose: str) -> int:
        """Reserve a register for the whole program."""
        if not self._registers:
            raise LimitError(
                f"the program needs more registers than the device has: none is left for {purpose}; use a smaller batch"
            )
        return self._registers.pop(0)

    @contextmanager
    def loop(self, register: int, count: int, advance: dict[int, int] | None = None, *, steps: bool = False) -> Iterator[None]:
        """Repeat what is emitted inside `count` times.

        Parameters
        ----------
        register : int
            Counts down.
        count : int
        advance : mapping from register to distance
            Registers that start at 0 and grow by so many units of 64 bytes each time.
        steps : bool
            Whether this is the loop over tokens, whose count the driver writes.
        """
        advance = advance or {}
        if steps:
            self._steps_command = len(self._entries)
        self.set(register, addend=count)
        for other in advance:
            self.set(other)
        target, outer = len(self._entries), self._repeats
        self._repeats *= count
        yield
        for other, distance in advance.items():
            self.set(other, y=other, addend=distance)
        self._emit(Opcode.LOOP, {"register": register, "target": target})
        self._repeats = outer

    def set(
        self, register: int, *, x: int = 0, y: int = 0, factor: int = 0, addend: int = 0, shift: int = 0,
        mode: SetMode = SetMode.PLAIN, limit: int = 0,
    ) -> None:  # fmt: skip
        """``register = (x * factor + y + addend) >> shift``, limited; negative numbers count modulo 2**32."""
        fields = {
            "register": register,
            "x": x,
            "y": y,
            "factor": factor % (1 << 32),
            "addend": addend % (1 << 32),
            "shift": shift,
        }
        self._emit(Opcode.SET, {**fields, "mode": mode, "limit": limit})

    def fence(self, *caches: Cache, stored: bool = False) -> None:
        """Let what follows read what has been appended to the caches, and what has been stored."""
        reads = sum(self._places.cache(c) for c in caches) | (self._places.stored if stored else 0)
        self._emit(Opcode.FENCE, {}, footprint=Footprint(reads=reads))

    def read(self, register: int, entry: int) -> None:
        """Set a register to an entry of the activation buffer."""
        self._emit(Opcode.READ, {"register": register, "a": entry})

    def store(self, entry: int, destination: Address, count: int) -> None:
        """Write entries of the activation buffer to memory."""
        self._emit(Opcode.STORE, {"a": entry, "count": count}, [("destination", 2, destination)])

    def rotate(self, entry: int, table: int, pairs: int, segments: int, stride: int) -> None:
        """Rotate vectors in place."""
        fields = {
            "a": entry,
            "d": entry,
            "table": table,
            "count": pairs,
            "segments": segments,
            "a_stride": stride,
            "d_stride": stride,
        }
        self._emit(Opcode.ROTATE, fields)

    def append(
        self, cache: Cache, *, a: int, scales: int, count: int, heads: int, a_stride: int, destination: Address,
        head_stride: int, token: int, row_stride: int = 0, scale_place: Address | None = None, scale_stride: int = 0,
        token_offset: int = 0,
    ) -> None:  # fmt: skip
        """Append the heads of a token to a cache; strides in memory in bytes, `token` is a register, plus `token_offset`."""
        fields = {"cache": cache, "a": a, "b": scales, "count": count, "segments": heads, "a_stride": a_stride}
        fields |= {"head_stride": head_stride // ADDRESS_UNIT, "row_stride": row_stride // ADDRESS_UNIT}
        fields |= {"scale_stride": scale_stride // ADDRESS_UNIT, "token": token_offset}
        addresses = [("destination", 2, destination)] + ([("scales", 9, scale_place)] if scale_place else [])
        self._emit(Opcode.APPEND, fields, addresses, modifiers=((6, token),))

    def gemv(
        self, source: Address, *, number: int, rows: int | Length, blocks: int | Length, slots: int, vector_set: int,
        first_block: int | BlockAt, offset: int, slot_stride: int, exponent: int = 0, stride: int = 0, kind: str = "weights",
        maxima: int | None = None, masked: int = 0,
    ) -> None:  # fmt: skip
        """Multiply a matrix of format `number` with the vectors in slots 0 to `slots` - 1; `stride` in bytes.

        The largest result of each slot goes to `maxima`, `BUFFER_UNIT` entries from one to the next. The last `masked` results
        of slot 0 are minus infinity, one less of each further slot, and so on from the beginning.
        """
        modifiers: tuple[tuple[int, int], ...] = ()
        reach: dict[str, int] = {}
        if isinstance(first_block, BlockAt):
            modifiers, reach = ((6, first_block.register),), {"blocks": first_block.span}
            first_block = first_block.first
        fields = {"format": number, "slots": slots, "set": vector_set, "first_block": first_block, "exponent": exponent}
        fields |= {"offset": offset, "slot_stride": slot_stride, "stride": stride // ADDRESS_UNIT, "masked": masked}
        if maxima is not None:
            fields |= {"keep_maxima": 1, "maxima": maxima}
        cached = rows.largest if isinstance(rows, Length) else blocks.largest * 16 if isinstance(blocks, Length) else 0
        period, before = _period(rows) or _period(blocks), _before(rows) or _before(blocks)
        traffic = Traffic(kind, number, _fixed(rows), _fixed(blocks), cached, period, before)
        lengths = [("rows", 4, rows), ("blocks", 5, blocks)]
        self._emit(Opcode.GEMV, fields, [("source", 2, source)], lengths, modifiers, traffic=traffic, reach=reach)

    def elementwise(
        self, a: int | Address, count: int | Length, segments: int = 1, *, b: int = 0, combine: Combine = Combine.SCALE,
        p: Scalar = 1.0, q: Scalar | None = None, function: Function = Function.IDENTITY, m: Scalar = 1.0, n: Scalar = 0.0,
        multiplier: Multiplier = Multiplier.SCALAR, stream: Address | None = None, stream_n: bool = False,
        to: int | Slot | None = None, reduce: Reduce = Reduce.NONE, r: int = 0, reduce_u: bool = False, negate: bool = False,
        resume: bool = False, index: int = 0, a_stride: int = 0, b_stride: int = 0, d_stride: int = 0,
    ) -> None:  # fmt: skip
        """An `ELEMENTWISE` command.

        `a`: an entry, or where it is streamed from. `to`: an entry, a slot, or nowhere. `q` is 1 in a sum and else 0, unless it
        is given.
        """
        q = float(combine == Combine.SUM) if q is None else q
        fields = {
            "segments": segments,
            "b": b,
            "combine": combine,
            "function": function,
            "multiplier": multiplier,
            "reduce": reduce,
        }
        fields |= {"n_stream": int(stream_n), "r": r, "reduce_u": int(reduce_u), "negate": int(negate), "resume": int(resume)}
        fields |= {"index": index, "a_stride": a_stride, "b_stride": b_stride}
        if isinstance(a, Address):
            stream = a
        else:
            fields["a"] = a
        fields["a_stream"] = int(isinstance(a, Address))
        modifiers: tuple[tuple[int, int], ...] = ()
        reach = {}
        for bit, (name, value) in enumerate((("p", p), ("q", q), ("m", m), ("n", n))):
            if isinstance(value, Loaded):
                fields[name] = value.entry
                if value.register is not None:
                    modifiers += ((_SCALAR_WORD + bit, value.register),)
                    reach[f"{name}_reach"] = value.reach
                fields["load"] = fields.get("load", 0) | 1 << bit
                fields["advance"] = fields.get("advance", 0) | int(value.advance) << bit
            else:
                fields[name] = float_bits(value)
        if isinstance(to, Slot):
            fields |= {"target": Target.SLOT, "slot": to.slot, "set": to.vector_set, "first_block": to.first_block}
            fields |= {"next_slot": int(to.next_slot), "duplicate": int(to.duplicate), "join": int(to.join)}
        elif to is not None:
            fields |= {"target": Target.BUFFER, "d": to, "d_stride": d_stride}
        traffic = NO_TRAFFIC
        if stream is not None:
            cached = count.largest if isinstance(count, Length) else 0
            traffic = Traffic("parameters", 0, segments, _fixed(count), cached, _period(count), _before(count))
        addresses = [] if stream is None else [("source", 2, stream)]
        self._emit(Opcode.ELEMENTWISE, fields, addresses, [("count", 4, count)], modifiers, traffic=traffic, reach=reach)

    def _emit(
        self,
        opcode: Opcode,
        fields: dict[str, int],
        addresses: Sequence[tuple[str, int, Address]] = (),
        lengths: Sequence[tuple[str, int, int | Length]] = (),
        modifiers: tuple[tuple[int, int], ...] = (),
        footprint: Footprint | None = None,
        traffic: Traffic = NO_TRAFFIC,
        reach: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        fields, largest = dict(fields), dict(reach)
        for name, word, address in addresses:
            fields[name] = address.byte // ADDRESS_UNIT
            modifiers += tuple((word, register) for register in address.registers)
        for name, word, length in lengths:
            if isinstance(length, Length):
                modifiers += ((word, length.register),)
                largest[name] = length.largest
            else:
                fields[name] = length
        if len(modifiers) > MODIFIERS:
            raise AssertionError(f"{opcode.name} needs {len(modifiers)} modifiers")
        if footprint is None:
            footprint = self._places.of(opcode, fields | largest)
        self._entries.append(_Entry(opcode, fields, modifiers, footprint, traffic, self._repeats))

    def finish(self) -> Program:
        """The program, every command with as much overlap as is safe.

        Raises
        ------
        LimitError
            If there are too many commands.
        """
        check_length(len(self._entries))
        pending = self._pending() if self._overlap else [0] * len(self._entries)
        commands = []
        for entry, value in zip(self._entries, pending):
            fields = dict(entry.fields)
            if entry.opcode in VECTOR_OPCODES or entry.opcode in (Opcode.GEMV, Opcode.FENCE):
                fields["pending"] = value
            for i, (word, register) in enumerate(sorted(entry.modifiers)):
                fields |= {f"modifier_word_{i}": word, f"modifier_register_{i}": register}
            commands.append(encode(entry.opcode, **fields))
        return Program(
            tuple(commands),
            tuple(self._sections),
            tuple(e.traffic for e in self._entries),
            tuple(e.repeats for e in self._entries),
            self._steps_command,
            self._build.lanes,
        )

    def _pending(self) -> list[int]:
        """The largest safe `pending` of each command.

        That is: how many commands follow the last one of the other unit that it conflicts with. Commands are looked at in the
        order of execution; each loop runs twice, as what a command meets in the second round it meets in all later ones.
        """
        most = ANY_PENDING - 1
        result = [most] * len(self._entries)
        recent: dict[bool, deque[Footprint]] = {False: deque(maxlen=most), True: deque(maxlen=most)}
        for index in self._order():
            entry = self._entries[index]
            vector = entry.opcode in VECTOR_OPCODES
            if not vector and entry.opcode not in (Opcode.GEMV, Opcode.FENCE):
                continue
            behind = 0
            for other in reversed(recent[not vector]):
                if entry.footprint.conflicts(other):
                    result[index] = min(result[index], behind)
                    break
                behind += 1
            if entry.opcode is not Opcode.FENCE:
                recent[vector].append(entry.footprint)
        return result

    def _order(self) -> Iterator[int]:
        """Indices in order of execution, each loop twice."""
        again: set[int] = set()
        index = 0
        while index < len(self._entries):
            yield index
            entry = self._entries[index]
            index += 1
            if entry.opcode is Opcode.LOOP:
                if index not in again:
                    again.add(index)
                    index = entry.fields["target"]
                else:
                    again.discard(index)


def check_length(commands: int) -> None:
    """Check that a queue holds so many commands.

    Raises
    ------
    LimitError
        If it does not.
    """
    if commands > MAX_COMMANDS:
        raise LimitError(f"the program has {commands} commands, a queue holds {MAX_COMMANDS}")


def _period(length: int | Length) -> int:
    return length.period if isinstance(length, Length) else 0


def _before(length: int | Length) -> int:
    return length.before if isinstance(length, Length) else 0


def _fixed(length: int | Length) -> int:
    return 0 if isinstance(length, Length) else length


def interleaved(stages: Sequence[Stage]) -> None:
    """Emit products, and the vector work on each one's results behind the next product.

    So the vector unit works on the results of one while the matrix unit streams the next, and few commands wait in the queues.

    Parameters
    ----------
    stages : sequence of Stage
    """
    before: Callable[[], None] | None = None
    for product, work in stages:
        product()
        if before:
            before()
        before = work
    if before:
        before()
