"""What a command reads and writes on the device, as sets of places.

A set is an integer with a bit for each place: first the entries of the activation buffer, then the blocks of the slots, then
the base exponents of each slot's sets, then the two KV caches, then what is stored in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import BUFFER_UNIT, WITH_B, Cache, Multiplier, Opcode, Reduce, Target

from .placement import Build

SETS = 4


@dataclass(frozen=True)
class Footprint:
    """Places that a command reads and writes."""

    reads: int = 0
    writes: int = 0

    def conflicts(self, other: "Footprint") -> bool:
        """Whether the order of two commands matters."""
        return bool(self.writes & (other.reads | other.writes) or self.reads & other.writes)


@dataclass(frozen=True)
class Places:
    """Numbers the places of a build."""

    build: Build

    def entries(self, first: int, count: int, segments: int = 1, stride: int = 0) -> int:
        """Entries of the activation buffer: `segments` stretches of `count`, `stride` apart."""
        if segments > 1 and stride == count:
            count, segments = count * segments, 1
        stretch = (1 << count) - 1
        places = 0
        for segment in range(segments):
            places |= stretch << first + segment * stride
            if not stride:
                break
        return places

    def blocks(self, slot: int, first: int, count: int) -> int:
        """Blocks of a slot."""
        return (1 << count) - 1 << self.build.buffer_entries + slot * self.build.vector_blocks + first

    def base(self, slot: int, vector: int) -> int:
        """The base exponent of one of a slot's sets."""
        return 1 << self.build.buffer_entries + self.build.right_hand_sides * self.build.vector_blocks + slot * SETS + vector

    def cache(self, cache: Cache) -> int:
        """All cached keys, or values."""
        return self.base(self.build.right_hand_sides, cache)

    @property
    def stored(self) -> int:
        """All that `STORE` writes."""
        return self.base(self.build.right_hand_sides, len(Cache))

    def of(self, opcode: Opcode, values: Mapping[str, int]) -> Footprint:
        """What a command touches, its modifiers applied; fields that are left out are 0.

        Of a scalar that may be any of several entries, ``p_reach`` and the like are their number.
        """
        get = {**dict.fromkeys(_FIELDS, 0), **values}
        if opcode is Opcode.GEMV:
            slots = range(get["slots"])
            reads = sum(self.blocks(s, get["first_block"], get["blocks"]) | self.base(s, get["set"]) for s in slots)
            writes = self.entries(get["offset"], get["rows"], get["slots"], get["slot_stride"])
            if get["keep_maxima"]:
                writes |= self.entries(get["maxima"], 1, get["slots"], BUFFER_UNIT)
            return Footprint(reads, writes)
        if opcode is Opcode.ELEMENTWISE:
            return self._elementwise(get)
        if opcode is Opcode.STORE:
            return Footprint(self.entries(get["a"], get["count"]), self.stored)
        if opcode is Opcode.READ:
            return Footprint(self.entries(get["a"], 1))
        if opcode is Opcode.ROTATE:
            size, segments = 2 * get["count"], get["segments"]
            return Footprint(
                self.entries(get["table"], size) | self.entries(get["a"], size, segments, get["a_stride"]),
                self.entries(get["d"], size, segments, get["d_stride"]),
            )
        if opcode is Opcode.APPEND:
            per_head = 1 if get["cache"] == Cache.VALUES else -(-get["count"] // BLOCK)
            return Footprint(
                self.entries(get["a"], get["count"], get["segments"], get["a_stride"])
                | self.entries(get["b"], get["segments"] * per_head),
                self.cache(Cache(get["cache"])),
            )
        return Footprint()

    def _elementwise(self, get: Mapping[str, int]) -> Footprint:
        count, segments = get["count"], get["segments"]
        operand = self.entries(get["a"], count, segments, get["a_stride"])
        reads = 0 if get["a_stream"] else operand
        writes = operand if get["reduce"] == Reduce.ARGMAX_REMOVE else 0
        if get["combine"] in WITH_B or get["multiplier"] == Multiplier.B:
            reads |= self.entries(get["b"], count, segments, get["b_stride"])
        for bit, name in enumerate("pqmn"):
            if get["load"] >> bit & 1:
                reads |= self.entries(get[name], max(segments if get["advance"] >> bit & 1 else 1, get[f"{name}_reach"]))
        if get["reduce"]:
            pair = get["reduce"] in (Reduce.ARGMAX, Reduce.ARGMAX_REMOVE)
            results = self.entries(get["r"], 2 * segments if pair else segments)
            writes |= results
            reads |= results if get["resume"] else 0
        if get["target"] == Target.BUFFER:
            writes |= self.entries(get["d"], count, segments, get["d_stride"])
        elif get["target"] == Target.SLOT:
            blocks = -(-count // (BLOCK // 2 if get["duplicate"] else BLOCK))
            for segment in range(segments):
                slot, first = (segment, 0) if get["next_slot"] else (0, segment * blocks)
                base = self.base(get["slot"] + slot, get["set"])
                writes |= self.blocks(get["slot"] + slot, get["first_block"] + first, blocks) | base
                reads |= base if get["join"] else 0
        return Footprint(reads, writes)


_FIELDS = (
    "slots", "set", "first_block", "blocks", "offset", "slot_stride", "rows", "a", "b", "d", "r", "count", "segments",
    "a_stride", "b_stride", "d_stride", "table", "cache", "a_stream", "combine", "multiplier", "load", "advance", "p", "q", "m",
    "n", "p_reach", "q_reach", "m_reach", "n_reach", "reduce", "resume", "target", "duplicate", "next_slot", "slot", "join",
    "keep_maxima", "maxima",
)  # fmt: skip
