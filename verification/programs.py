"""Random programs: memory images and command queues that exercise everything a build can do."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from tailrace.spec.commands import decode, float_bits
from tailrace.spec.config import Config
from tailrace.spec.floats import Function
from tailrace.spec.formats import BY_NAME, FORMATS, I8, Q8_0, Format
from tailrace.spec.isa import (
    ADDRESS_UNIT,
    FIRST_ARGUMENT,
    Cache,
    Combine,
    Multiplier,
    Opcode,
    Reduce,
    SetMode,
    Target,
)
from tailrace.spec.kv_cache import key_bytes, value_bytes, value_row_bytes
from verification.races.overlap import largest_pending_by_index

from .program_maker import DESTINATION, MEMORY_BYTES, Program, ProgramMaker, trace

__all__ = ["DESTINATION", "MEMORY_BYTES", "Program", "ProgramMaker", "random_program"]

#: Entries of the activation buffer that a program uses; they may lie around its end.
WINDOW = 1024
#: Registers that programs use for what: a loop's count, what it steps, anything; the count of a loop within a loop.
_COUNT, _STEP, _ANY, _INNER_COUNT = 1, 2, 3, 10
_CAPACITY = 64

_T = TypeVar("_T")


def random_program(rng: np.random.Generator, config: Config, commands: int, *, stream_blocks: int = 100) -> Program:
    """Make a program of random valid commands.

    It starts by writing what it uses of slots and buffer and ends by storing all that can be seen of them. Its ``pending``
    fields are random, up to what is safe.

    Parameters
    ----------
    rng : Generator
    config : Config
    commands : int
        Number of random steps, each of one command or a few.
    stream_blocks : int
        Bound on the blocks in a lane's stream of one matrix: how long a product takes.
    """
    while True:
        maker = _RandomMaker(rng, config, stream_blocks)
        maker.begin()
        for _ in range(commands):
            maker.step()
        maker.end()
        program = maker.program()
        try:
            executed = trace(program, config)
        except ValueError as error:
            # A loop may come back to a product whose vector it has overwritten in part.
            if "do not belong" not in str(error):
                raise
            continue
        return _with_pending(rng, program, largest_pending_by_index(executed, config))


def _with_pending(rng: np.random.Generator, program: Program, safe: dict[int, int]) -> Program:
    for index, command in enumerate(program.commands):
        decoded = decode(command)
        if decoded and "pending" in decoded[1]:
            limit = safe[index]
            pending = int(rng.choice([limit, limit, rng.integers(0, limit + 1), 0]))
            program.commands[index] = command[:1] + bytes([command[1] & 0xF0 | pending]) + command[2:]
    queue = np.frombuffer(b"".join(program.commands), dtype=np.uint8)
    program.memory[program.queue : program.queue + queue.size] = queue
    return program


class _RandomMaker(ProgramMaker):
    """Draws commands. It knows which blocks of the slots hold what, so that products use vectors that are whole."""

    def __init__(self, rng: np.random.Generator, config: Config, stream_blocks: int) -> None:
        super().__init__(rng, config)
        self._origin = self._pick(0, config.buffer_entries // 4 - 1) * 4
        self._stream_blocks = stream_blocks
        # For each slot and set the first block and the number of blocks of its vector.
        self._vectors: list[dict[int, tuple[int, int]]] = [{} for _ in range(config.right_hand_sides)]
        self._in_loop = False
        self._scalar_place = 0

    def _pick(self, low: int, high: int) -> int:
        """A number from low to high, small ones and the limits more often than others."""
        choices = [low, high, self.rng.integers(low, high + 1), self.rng.integers(low, min(low + 8, high) + 1)]
        return int(self.rng.choice(choices))

    def _chance(self, probability: float) -> int:
        return int(self.rng.random() < probability)

    def _one_of(self, choices: Sequence[_T]) -> _T:
        return choices[int(self.rng.integers(len(choices)))]

    def _places(self, *sizes: int) -> list[int]:
        """Disjoint places for vectors in the window, in units of 4 entries."""
        whole = [-(-size // 4) for size in sizes]
        spare = WINDOW // 4 - sum(whole)
        if spare < 0:
            raise ValueError("the vectors do not fit the window")
        order = self.rng.permutation(len(sizes))
        gaps = np.sort(self.rng.integers(0, spare + 1, len(sizes)))
        starts, used = [0] * len(sizes), 0
        for gap, index in zip(gaps, order, strict=True):
            starts[index] = (self._origin + 4 * int(gap + used)) % self.config.buffer_entries
            used += whole[index]
        return starts

    def begin(self) -> None:
        """Fill the window and every slot."""
        self.fill(self._origin, WINDOW)
        self._load(range(self.config.right_hand_sides))

    def end(self) -> None:
        """Store what the window and the slots hold."""
        self.store(self._origin, WINDOW)
        for slots in range(1, self.config.right_hand_sides + 1):
            for number in self._vectors[slots - 1]:
                self._product(Q8_0, slots, number, rows=5)
        self.store(self._origin, WINDOW)

    def step(self) -> None:
        """One command, or a few that belong together."""
        steps = [
            self._random_load,
            self._random_product,
            self._random_product,
            self._random_product,
            self._elementwise,
            self._elementwise,
            self._elementwise,
            self._to_slot,
            self._rotate,
            self._append,
            self._store,
            self._read_back,
            self._chosen,
            self._registers,
            self._loop,
            self._fence,
        ]
        self._one_of(steps)()

    def _fence(self) -> None:
        self.fence()

    def _store(self) -> None:
        count = self._pick(1, 300)
        self.store(self._places(count)[0], count)

    # Vectors

    def _load(self, slots: Sequence[int]) -> None:
        """Vectors of one set that start at the same block, so that they can be multiplied at once."""
        number, first = int(self.rng.integers(4)), self._pick(0, self.config.vector_blocks - 1)
        for slot in slots:
            blocks = self._pick(1, min(24, self.config.vector_blocks))
            self.load(slot, blocks, number=number, first_block=first)
            self._holds(slot, number, first, blocks)

    def _random_load(self) -> None:
        slots = range(self.config.right_hand_sides)
        self._load(self._one_of([slots, [self._one_of(slots)]]))

    def _holds(self, slot: int, number: int, first: int, blocks: int) -> None:
        """Note that a slot has a new vector, and forget those that it overwrote."""
        depth = self.config.vector_blocks
        taken = {(first + i) % depth for i in range(blocks)}
        kept = {
            n: (at, size)
            for n, (at, size) in self._vectors[slot].items()
            if n != number and not taken & {(at + i) % depth for i in range(size)}
        }
        self._vectors[slot] = kept | {number: (first, blocks)}

    # Products

    def _random_product(self) -> None:
        slots, number = self._one_of(self._usable())
        self._product(self._one_of(FORMATS), slots, number)

    def _usable(self) -> list[tuple[int, int]]:
        """How many slots can be multiplied at once with which set."""
        found = []
        for number, vector in self._vectors[0].items():
            for slots in range(1, len(self._vectors) + 1):
                if all(number in v and v[number][0] == vector[0] for v in self._vectors[:slots]):
                    found.append((slots, number))
        # Slot 0 always has a vector.
        return found

    def _product(self, weights: Format, slots: int, number: int, rows: int = 0) -> None:
        vectors = [self._vectors[slot].get(number) for slot in range(slots)]
        present = [vector for vector in vectors if vector is not None]
        if len(present) < slots or len({first for first, _ in present}) > 1:
            return
        lanes = self.config.lanes
        most = min(min(size for _, size in present), self._stream_blocks)
        skipped = int(self.rng.integers(most)) if self._chance(0.3) else 0
        blocks = self._pick(1, most - skipped)
        rows = rows or self._pick(1, max(1, min(self._stream_blocks // blocks * lanes, WINDOW // slots - 8, 200)))
        stride = -(-rows // 4) * 4
        fields = {
            "offset": self._places(stride * slots)[0],
            "slot_stride": stride,
            "set": number,
            "first_block": (present[0][0] + skipped) % self.config.vector_blocks,
            "exponent": int(self.rng.integers(-12, 5)),
        }
        if self._chance(0.3):
            fields["offset"], fields["maxima"] = self._places(stride * slots, 4 * slots)
            fields["keep_maxima"] = 1
        if self._chance(0.3):
            fields["masked"] = int(self.rng.integers(self.config.right_hand_sides))
        if weights is I8:
            fields["exponent"] -= 8
            if self._chance(0.5):
                # Groups of rows that do not touch: the whole is placed as one matrix of longer rows.
                units = -(-blocks * lanes * 16 // ADDRESS_UNIT) + self._pick(0, 2) * self.config.beat_units
                stream = self.rng.integers(0, 256, -(-rows // lanes) * units * ADDRESS_UNIT, dtype=np.uint8)
                source = self.place(stream, self.config.alignment)
                fields |= {"stride": units, "source": source}
        self.gemv(weights, rows, blocks, slots, **fields, **self._modified(2, weights))

    def _modified(self, word: int, weights: Format | None = None) -> dict[str, int]:
        """Modifier fields, if the maker is in a loop: a word gets what the loop steps."""
        if not self._in_loop or weights is BY_NAME["MXFP4"]:
            return {}
        return {"modifier_word_1": word, "modifier_register_1": _STEP}

    # Elementwise

    def _scalars(self, segments: int) -> dict[str, int]:
        fields = {"load": 0, "advance": 0}
        for bit, (name, neutral) in enumerate((("p", 1.0), ("q", 0.0), ("m", 1.0), ("n", 0.0))):
            if self._chance(0.3):
                fields["load"] |= 1 << bit
                fields["advance"] |= self._chance(0.5) << bit
                fields[name] = self._scalar_place
            else:
                fields[name] = float_bits(float(self._one_of([neutral, neutral, self.rng.normal(), 0.0, 1.0])))
        return fields

    def _elementwise(self, **fixed: int) -> None:
        """Any combination of operands, functions, reductions and the buffer as the target, in disjoint or equal places."""
        segments = fixed.get("segments", self._one_of([1, 1, 2, 3, 5]))
        count = fixed.get("count", self._pick(1, 150 // segments))
        stride = -(-count // 4) * 4 + 4 * self._pick(0, 1)
        reduce = Reduce(fixed.get("reduce", self._one_of(list(Reduce))))
        size = stride * (segments - 1) + count
        a, b, d, r, scalars = self._places(size, size, size, 2 * segments + 3, segments)
        self._scalar_place = scalars
        a_stream = 0 if reduce is Reduce.ARGMAX_REMOVE else self._chance(0.2)
        fields = {
            "combine": self._one_of(list(Combine)),
            "a_stream": a_stream,
            "function": self._one_of([Function.IDENTITY, *Function]),
            "multiplier": self._one_of([Multiplier.SCALAR, *Multiplier]),
            "n_stream": self._chance(0.2),
            "reduce": reduce,
            "reduce_u": self._chance(0.3),
            "negate": self._chance(0.3) if reduce < Reduce.ARGMAX else 0,
            "resume": self._chance(0.3) if reduce not in (Reduce.NONE, Reduce.ARGMAX_REMOVE) else 0,
            "target": self._one_of([Target.NONE, Target.BUFFER, Target.BUFFER]),
            "a": a,
            "b": b,
            # A removal and a result in the same place would need an order.
            "d": self._one_of([d, d, b] if reduce is Reduce.ARGMAX_REMOVE or a_stream else [d, d, a, b]),
            "r": r + int(self.rng.integers(4)),
            "a_stride": stride,
            "b_stride": stride,
            "d_stride": stride,
            "segments": segments,
            "count": count,
            "index": int(self.rng.integers(100)),
            **self._scalars(segments),
            **fixed,
        }
        fields["r"] %= self.config.buffer_entries
        if reduce is Reduce.ARGMAX_REMOVE and segments > 1:
            fields["target"] = fixed.get("target", Target.NONE)
            fields["a_stride"] = self._one_of([0, stride])
        elif self._chance(0.1):
            fields["b_stride"] = 0
            fields["d"] = fields["d"] if fields["d"] != b else d
        if fields["a_stream"] or fields["multiplier"] == Multiplier.STREAM or fields["n_stream"]:
            fields["source"] = self.place(self.floats(-(-count // 16) * 16 * segments).view(np.uint8))
            fields |= self._modified(2)
        self.add(Opcode.ELEMENTWISE, **fields)

    def _to_slot(self) -> None:
        """The slot target: whole or short blocks, one slot or several, a new vector or more blocks for an old one."""
        slots, depth = self.config.right_hand_sides, self.config.vector_blocks
        slot, number = int(self.rng.integers(slots)), int(self.rng.integers(4))
        next_slot, duplicate = self._chance(0.5), self._chance(0.3)
        segments = int(self.rng.integers(1, slots - slot + 1)) if next_slot else self._one_of([1, 1, 2, 3])
        count = self._pick(1, 200 // segments)
        blocks = -(-count // (16 if duplicate else 32)) * (1 if next_slot else segments)
        first, join = self._pick(0, depth - 1), 0
        held = self._vectors[slot].get(number)
        if held and not next_slot and sum(held) + blocks <= depth and self._chance(0.5):
            first, join = sum(held), 1
        self._elementwise(
            segments=segments,
            count=count,
            reduce=self._one_of([Reduce.NONE, Reduce.SUM, Reduce.ABSOLUTE_MAXIMUM]),
            target=Target.SLOT,
            slot=slot,
            set=number,
            first_block=first,
            next_slot=next_slot,
            duplicate=duplicate,
            join=join,
        )
        if join and held:
            first, blocks = held[0], held[1] + blocks
        for written in range(slot, slot + segments if next_slot else slot + 1):
            self._holds(written, number, first, blocks)

    def _rotate(self) -> None:
        segments, count = self._one_of([1, 2, 3]), 4 * self._pick(1, 16)
        stride = 2 * count + 4 * self._pick(0, 1)
        size = stride * segments
        a, d, table = self._places(size, size, 2 * count)
        fields = {"a_stride": stride, "d_stride": stride, "d": self._one_of([a, d]), "a": a, "table": table}
        self.add(Opcode.ROTATE, segments=segments, count=count, **fields)

    # Memory

    def _append(self) -> None:
        """Keys or values of a few heads, and perhaps a product with what is there then."""
        lanes, heads = self.config.lanes, self._one_of([1, 2, 3])
        count = self._pick(1, 96)
        stride = -(-count // 4) * 4
        token = self._pick(0, _CAPACITY - 1)
        a, scales = self._places(stride * heads, heads * -(-count // 32) + 3)
        fields = {"a": a, "a_stride": stride, "b": (scales + int(self.rng.integers(4))) % self.config.buffer_entries}
        fields |= {"count": count, "segments": heads, "token": token}
        if self._chance(0.5):
            unit = key_bytes(count, _CAPACITY, lanes) // ADDRESS_UNIT
            destination = self.destination(heads * unit * ADDRESS_UNIT, self.config.alignment)
            self.add(Opcode.APPEND, cache=Cache.KEYS, destination=destination, head_stride=unit, **fields)
            read = {"format": Q8_0.number, "rows": token + 1, "blocks": -(-count // 32), "source": destination}
        else:
            unit, row = value_bytes(count, _CAPACITY, lanes) // ADDRESS_UNIT, value_row_bytes(_CAPACITY, lanes) // ADDRESS_UNIT
            destination = self.destination(heads * unit * ADDRESS_UNIT, self.config.alignment)
            of_head = 4 * _CAPACITY // ADDRESS_UNIT
            fields |= {"row_stride": row, "scales": self.destination(heads * of_head * ADDRESS_UNIT), "scale_stride": of_head}
            self.add(Opcode.APPEND, cache=Cache.VALUES, destination=destination, head_stride=unit, **fields)
            read = {"format": I8.number, "rows": count, "blocks": token // 16 + 1, "source": destination, "stride": row}
        number, (first, size) = self._one_of(list(self._vectors[0].items()))
        if read["blocks"] <= size and self._chance(0.7):
            self.fence()
            offset = self._places(read["rows"])[0]
            common = {"slots": 1, "set": number, "first_block": first, "offset": offset, "exponent": -12}
            self.add(Opcode.GEMV, **common, **read)

    def _read_back(self) -> None:
        """What was stored before a fence is read after it: as a stream of floats, or as a matrix."""
        count = self._pick(16, 200)
        address = self.store(self._places(count)[0], count) // ADDRESS_UNIT
        self.fence()
        d = self._places(count)[0]
        one = float_bits(1)
        fields = {"a_stream": 1, "source": address, "p": one, "m": one, "target": Target.BUFFER, "d": d}
        self.add(Opcode.ELEMENTWISE, count=count, segments=1, **fields)

    # Registers

    def _chosen(self) -> None:
        """A product with a matrix that the program chooses, as routers choose experts."""
        unit, count, register = self.config.beat_units, self._pick(2, 40), _ANY + int(self.rng.integers(4))
        a, r = self._places(count, 2)
        one = float_bits(1)
        self.add(Opcode.ELEMENTWISE, a=a, count=count, segments=1, p=one, m=one, reduce=Reduce.ARGMAX, r=r)
        self.add(Opcode.READ, register=register, a=(r + 1) % self.config.buffer_entries)
        self.add(
            Opcode.SET, register=register, x=register, factor=unit * int(self.rng.integers(3)), addend=unit * self._pick(0, 9)
        )
        number, (first, size) = self._one_of(list(self._vectors[0].items()))
        blocks, rows = self._pick(1, min(size, 8)), self._pick(1, 30)
        modifier = {"modifier_word_0": 2, "modifier_register_0": register, "set": number, "first_block": first}
        self.gemv(
            self._one_of([Q8_0, BY_NAME["Q4_K"]]), rows, blocks, 1, offset=self._places(rows)[0], exponent=-12, **modifier
        )

    def _registers(self) -> None:
        """Random arithmetic, seen as the bits of a factor."""
        register = _ANY + int(self.rng.integers(6))
        self.add(
            Opcode.SET,
            register=register,
            mode=self._one_of(list(SetMode)),
            x=int(self.rng.integers(32)),
            y=FIRST_ARGUMENT + int(self.rng.integers(8)),
            factor=int(self.rng.integers(1 << 32)),
            addend=int(self.rng.integers(1 << 32)),
            shift=self._pick(0, 31),
            limit=int(self.rng.integers(1 << 32)),
        )
        a, d = self._places(8, 8)
        self.add(
            Opcode.ELEMENTWISE,
            a=a,
            d=d,
            count=8,
            segments=1,
            target=Target.BUFFER,
            p=0,
            m=float_bits(1),
            modifier_word_0=8,
            modifier_register_0=register,
            modifier_word_2=11,
            modifier_register_2=self._pick(0, 31),
        )

    def _loop(self) -> None:
        """A few commands several times; some of their sources move on."""
        if self._in_loop:
            self._elementwise()
            return
        unit = self.config.beat_units
        self.add(Opcode.SET, register=_COUNT, addend=self._pick(1, 4))
        self.add(Opcode.SET, register=_STEP, addend=unit * self._pick(0, 3))
        target = len(self.commands)
        self._in_loop = True
        for _ in range(int(self.rng.integers(1, 4))):
            body = [self._elementwise, self._random_product, self._to_slot, self._rotate, self._append, self._registers]
            self._one_of([*body, self._inner_loop])()
        self._in_loop = False
        self.add(Opcode.SET, register=_STEP, x=_STEP, factor=1, addend=unit * self._pick(0, 3))
        self.add(Opcode.LOOP, register=_COUNT, target=target)

    def _inner_loop(self) -> None:
        """A loop within a loop; now and then one without a body."""
        self.add(Opcode.SET, register=_INNER_COUNT, addend=self._pick(1, 3))
        target = len(self.commands)
        for _ in range(int(self.rng.integers(3))):
            self._one_of([self._elementwise, self._random_product, self._registers])()
        self.add(Opcode.LOOP, register=_INNER_COUNT, target=target)
