"""What `ELEMENTWISE` and `ROTATE` do, written down in numpy from the text of `tailrace.spec.isa`, and commands drawn at random."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.commands import encode, float_bits
from tailrace.spec.config import Config
from tailrace.spec.floats import Function, add, apply, flush, multiply, total
from tailrace.spec.isa import FIELDS, STREAM_UNIT, Combine, Multiplier, Opcode, Reduce, Target

Floats = NDArray[np.float32]
ONE, MINUS_INFINITY = np.float32(1), np.float32(-np.inf)


@dataclass
class Word:
    """Elements of one segment on their way to a slot."""

    elements: list[int]
    slot: int
    vector_first: bool
    final: bool


@dataclass
class Case:
    """A command, the floats of its streamed operand (padded), and how many words of results it has."""

    opcode: Opcode
    fields: dict[str, int]
    streamed: Floats

    @property
    def command(self) -> int:
        return int.from_bytes(encode(self.opcode, **self.fields), "little")


class Model:
    """The activation buffer, and what commands do to it. `bits` holds its entries as uint32."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.bits = np.zeros(config.buffer_entries, dtype=np.uint32)

    def run(self, case: Case) -> list[Word]:
        """Carry out a command; gives the segments that go to vector slots."""
        fields = {f.name: case.fields.get(f.name, 0) for f in FIELDS[case.opcode]}
        if case.opcode is Opcode.ROTATE:
            self._rotate(fields)
            return []
        return list(self._elementwise(fields, case.streamed))

    def read(self, entry: int, count: int) -> Floats:
        return self.bits[(entry + np.arange(count)) % len(self.bits)].view(np.float32)

    def write(self, entry: int, values: Any) -> None:
        values = np.atleast_1d(np.asarray(values, dtype=np.float32))
        self.bits[(entry + np.arange(len(values))) % len(self.bits)] = values.view(np.uint32)

    def _rotate(self, f: dict[str, int]) -> None:
        n = f["count"]
        cosines, sines = self.read(f["table"], n), self.read(f["table"] + n, n)
        for segment in range(f["segments"]):
            x, y = np.split(self.read(f["a"] + segment * f["a_stride"], 2 * n), 2)
            left = add(multiply(x, cosines), -multiply(y, sines))
            right = add(multiply(y, cosines), multiply(x, sines))
            self.write(f["d"] + segment * f["d_stride"], np.concatenate([left, right]))

    def _elementwise(self, f: dict[str, int], streamed: Floats) -> Iterator[Word]:
        n = f["count"]
        part = -(-n // STREAM_UNIT) * STREAM_UNIT
        for segment in range(f["segments"]):
            stream = streamed[segment * part : segment * part + n]
            p, q, m, n_scalar = (self._scalar(f, i, name, segment) for i, name in enumerate("pqmn"))
            a = stream if f["a_stream"] else self.read(f["a"] + segment * f["a_stride"], n)
            b = self.read(f["b"] + segment * f["b_stride"], n)
            t = {
                Combine.SCALE: lambda a=a, p=p, q=q: add(multiply(a, p), q),
                Combine.SUM: lambda a=a, b=b, p=p, q=q: add(multiply(a, p), multiply(b, q)),
                Combine.PRODUCT: lambda a=a, b=b: multiply(a, b),
                Combine.LIMIT: lambda a=a, p=p, q=q: np.minimum(multiply(a, p), flush(q)),
            }[Combine(f["combine"])]()
            u = apply(Function(f["function"]), t)
            factor = {Multiplier.SCALAR: m, Multiplier.STREAM: stream, Multiplier.B: b, Multiplier.A: a}[f["multiplier"]]
            v = add(multiply(u, factor), stream if f["n_stream"] else n_scalar)
            if f["target"] == Target.BUFFER:
                self.write(f["d"] + segment * f["d_stride"], v)
            elif f["target"] == Target.SLOT:
                slot = (f["slot"] + segment * f["next_slot"]) % self.config.right_hand_sides
                first, final = segment == 0 or bool(f["next_slot"]), segment == f["segments"] - 1
                yield Word([int(x) for x in v.view(np.uint32)], slot, first, final)
            self._reduce(f, u if f["reduce_u"] else v, segment)

    def _scalar(self, f: dict[str, int], i: int, name: str, segment: int) -> Floats:
        if f["load"] >> i & 1:
            return self.read((f[name] & 0xFFFF) + segment * (f["advance"] >> i & 1), 1)
        return np.array([f[name]], dtype=np.uint32).view(np.float32)

    def _reduce(self, f: dict[str, int], x: Floats, segment: int) -> None:
        kind = Reduce(f["reduce"])
        if kind is Reduce.NONE:
            return
        if kind in (Reduce.ARGMAX, Reduce.ARGMAX_REMOVE):
            self._argmax(f, x, segment)
            return
        there = flush(self.read(f["r"] + segment, 1))[0]
        if kind in (Reduce.SUM, Reduce.SUM_OF_SQUARES):
            result = total(multiply(x, x) if kind is Reduce.SUM_OF_SQUARES else x)
            result = add(there, result) if f["resume"] else result
        else:
            result = (np.abs(x) if kind is Reduce.ABSOLUTE_MAXIMUM else x).max()
            result = max(there, result) if f["resume"] else result
        self.write(f["r"] + segment, flush(-result) if f["negate"] else result)

    def _argmax(self, f: dict[str, int], x: Floats, segment: int) -> None:
        entry = f["r"] + 2 * segment
        position = int(np.argmax(x))
        if f["resume"] and self.read(entry, 1)[0] >= x[position]:
            return
        self.write(entry, x[position])
        self.bits[(entry + 1) % len(self.bits)] = (position + f["index"]) & 0xFFFF_FFFF
        if f["reduce"] == Reduce.ARGMAX_REMOVE and not f["a_stream"]:
            self.write(f["a"] + segment * f["a_stride"] + position, MINUS_INFINITY)


def draw_floats(rng: random.Random, count: int) -> Floats:
    """Floats of all kinds, most of them of moderate size, some alike."""
    special = [0.0, -0.0, 1.0, -1.0, 1e-40, -1e-40, np.inf, -np.inf, 3e38, -3e38, 2e-38, 2.0, 0.5]
    values = [rng.choice(special) if rng.random() < 0.15 else rng.gauss(0, 2.0 ** rng.randint(-6, 6)) for _ in range(count)]
    return np.array(values, dtype=np.float32)


def _pick(rng: random.Random, kinds: Any) -> int:
    return int(rng.choice(list(kinds)))


def draw_rotate(rng: random.Random, config: Config) -> Case:
    pairs, segments = 4 * rng.randint(1, 4), rng.randint(1, 3)
    size = segments * 2 * pairs
    start = 4 * rng.randrange(config.buffer_entries // 4)
    a, table, d = (start + offset for offset in (0, size, size + 2 * pairs))
    wrap = config.buffer_entries
    fields = {"a": a % wrap, "table": table % wrap, "d": (a if rng.random() < 0.3 else d) % wrap, "count": pairs}
    return Case(
        Opcode.ROTATE,
        fields | {"segments": segments, "a_stride": 2 * pairs, "d_stride": 2 * pairs},
        np.zeros(0, dtype=np.float32),
    )


def draw_elementwise(rng: random.Random, config: Config) -> Case:
    """A command whose operands, results and scalars lie beside each other somewhere in the buffer; or whose result is an operand."""
    count, segments = rng.choice([1, 2, 3, 4, 5, 8, 16, 17, 31, 37]), rng.randint(1, 3)
    stride = -(-count // 4) * 4 + 4 * rng.randint(0, 2)
    size = stride * segments
    places = {}
    place = 4 * rng.randrange(config.buffer_entries // 4)
    for name, entries in (("a", size), ("b", size), ("d", size), ("p", 3), ("q", 3), ("m", 3), ("n", 3), ("r", 7)):
        if name in "pqmnr":
            place += rng.randint(0, 3)
        places[name] = place % config.buffer_entries
        place += entries
    resume = int(rng.random() < 0.3)
    reduce = _pick(rng, Reduce) if rng.random() < 0.7 else 0
    fields = {
        "combine": _pick(rng, Combine),
        "a_stream": int(rng.random() < 0.2),
        "function": _pick(rng, Function),
        "multiplier": _pick(rng, Multiplier),
        "n_stream": int(rng.random() < 0.2),
        "reduce": reduce,
        "reduce_u": rng.randint(0, 1),
        "negate": rng.randint(0, 1) if reduce < Reduce.ARGMAX else 0,
        "resume": resume,
        "target": _pick(rng, Target),
        "next_slot": rng.randint(0, 1),
        "duplicate": rng.randint(0, 1),
        "join": rng.randint(0, 1),
        "a": places["a"],
        "b": places["b"],
        "d": rng.choice([places["d"], places["d"], places["a"], places["b"]]),
        "r": places["r"],
        "count": count,
        "segments": segments,
        "slot": rng.randrange(config.right_hand_sides),
        "set": rng.randrange(4),
        "first_block": rng.randrange(config.vector_blocks),
        "a_stride": stride,
        "b_stride": stride,
        "d_stride": stride,
        "load": rng.randrange(16) if rng.random() < 0.6 else 0,
        "advance": rng.randrange(16),
        "index": rng.choice([0, 1000, (1 << 32) - 5]),
    }
    if reduce == Reduce.ARGMAX_REMOVE and fields["d"] != places["a"] and rng.random() < 0.5:
        # The largest ones of one vector.
        fields["a_stride"] = 0
    for i, name in enumerate("pqmn"):
        value = float_bits(float(draw_floats(rng, 1)[0]) if rng.random() < 0.7 else float(rng.randint(0, 1)))
        fields[name] = places[name] | rng.randint(0, 1) << 16 if fields["load"] >> i & 1 else value
    if fields["a_stream"] or fields["n_stream"] or fields["multiplier"] == Multiplier.STREAM:
        streamed = draw_floats(rng, segments * -(-count // STREAM_UNIT) * STREAM_UNIT)
    else:
        streamed = np.zeros(0, dtype=np.float32)
    return Case(Opcode.ELEMENTWISE, fields, streamed)
