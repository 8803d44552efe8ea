"""What the tests of the slots share: a model of what a `VectorWrite` port fills, and float32 vectors that are hard to quantise."""

from typing import Any

import numpy as np

from tailrace.spec.config import Config
from tailrace.spec.numerics import quantise
from tailrace.spec.vector import pack_vector

SIGN, INFINITY = 0x8000_0000, 0x7F80_0000


def config(bus_width: int = 128, right_hand_sides: int = 1, vector_width: int = 0) -> Config:
    return Config("test", bus_width, right_hand_sides, vector_blocks=64, buffer_entries=1024, vector_width=vector_width)


class Slots:
    """The vector slots as a `VectorWrite` port fills them. `when` holds the cycles of the writes, for each kind."""

    def __init__(self, config: Config, port: Any) -> None:
        self.port, self.elements = port, config.unit_width // 16
        shape = (config.right_hand_sides, config.vector_blocks)
        self.bases = np.full((config.right_hand_sides, 4), 999)
        self.exponents = np.full(shape, 999)
        self.totals = np.zeros((*shape, 2), dtype=np.int64)
        self.mantissas = np.zeros((*shape, 32), dtype=np.int16)
        self.when: dict[str, list[int]] = {"beat": [], "commit": [], "base": []}

    async def record(self, ctx: Any) -> None:
        beat, commit, base = self.port.beat, self.port.commit, self.port.base
        members = (
            *(beat.enable, beat.slot, beat.block, beat.part, beat.data),
            *(commit.enable, commit.slot, commit.block, commit.exponent, *commit.totals),
            *(base.enable, base.slot, base.set, base.base),
        )
        now = 0
        async for _, _, *values in ctx.tick().sample(*members):
            now += 1
            beats, commits, bases = values[:5], values[5:11], values[11:]
            if beats[0]:
                slot, block, part, value = beats[1:]
                elements = np.frombuffer(value.to_bytes(2 * self.elements, "little"), dtype="<i2")
                self.mantissas[slot, block, part * self.elements : (part + 1) * self.elements] = elements
                self.when["beat"].append(now)
            if commits[0]:
                slot, block, exponent, *totals = commits[1:]
                self.exponents[slot, block], self.totals[slot, block] = exponent, totals
                self.when["commit"].append(now)
            if bases[0]:
                _, slot, set, base = bases
                self.bases[slot, set] = base
                self.when["base"].append(now)

    def vector(self, slot: int, set: int, first_block: int, blocks: int) -> tuple[int, np.ndarray, np.ndarray]:
        """Base, exponents and mantissas as the vector memory shows them."""
        places = (first_block + np.arange(blocks)) % self.exponents.shape[1]
        base = int(self.bases[slot, set])
        exponents = self.exponents[slot, places] - base
        mantissas = np.where(exponents[:, None] < 0, 0, self.mantissas[slot, places])
        return base, np.maximum(exponents, 0), mantissas

    def check(self, bits: np.ndarray, slot: int, set: int, first_block: int, what: str) -> None:
        """Whether a vector is there, quantised as the definition says, with the sums of what was written."""
        found = self.vector(slot, set, first_block, len(bits) // 32)
        for one, expected in zip(found, quantise(bits.view(np.float32)), strict=True):
            np.testing.assert_array_equal(one, expected, err_msg=what)
        places = (first_block + np.arange(len(bits) // 32)) % self.exponents.shape[1]
        np.testing.assert_array_equal(self.totals[slot, places], half_sums(self.mantissas[slot, places]), err_msg=what)


def half_sums(mantissas: np.ndarray) -> np.ndarray:
    """Sums of the mantissas of the halves of blocks."""
    return mantissas.reshape(*mantissas.shape[:-1], 2, 16).sum(axis=-1, dtype=np.int64)


def image(base: int, exponents: np.ndarray, mantissas: np.ndarray, config: Config) -> list[int]:
    """Bus beats of a vector image."""
    raw = pack_vector(base, exponents, mantissas)
    return [int.from_bytes(raw[n : n + config.bus_bytes], "little") for n in range(0, len(raw), config.bus_bytes)]


def float_bits(x: Any) -> np.ndarray:
    return np.asarray(x).astype(np.float32).view(np.uint32)


def rough(rng: np.random.Generator, blocks: int, lowest: int = 0, highest: int = 254) -> np.ndarray:
    """Any finite float32 whose biased exponent lies in a range; with short fractions, so that there are ties."""
    count = 32 * blocks
    exponent = rng.integers(lowest, highest + 1, count, dtype=np.uint32)
    fraction = rng.integers(0, 1 << 23, count, dtype=np.uint32)
    length = rng.integers(0, 24, count, dtype=np.uint32)
    fraction &= ((np.uint32(1) << length) - 1) << (np.uint32(23) - length)
    return rng.integers(0, 2, count, dtype=np.uint32) << 31 | exponent << 23 | fraction


def close(rng: np.random.Generator, blocks: int) -> np.ndarray:
    """Blocks whose elements lie within the 16 places of a mantissa, and blocks within the window of block exponents."""
    parts = []
    for _ in range(blocks):
        highest = int(rng.integers(80, 130))
        parts.append(rough(rng, 1, highest - 20, highest))
    return np.concatenate(parts)


def around_ties() -> np.ndarray:
    """Block d: a one, then elements d binary places below it, half way between two mantissas or one bit above that."""
    blocks = []
    for distance in range(16):
        exponent = (127 - distance) << 23
        tie = (1 << (8 + distance)) & 0x7F_FFFF
        block = [127 << 23, exponent | tie, *(exponent | tie | 1 << n for n in range(8 + distance))]
        blocks.append(np.array([*block, *([exponent | tie | SIGN] * (32 - len(block)))], dtype=np.uint32))
    return np.concatenate(blocks)


def vectors() -> dict[str, np.ndarray]:
    """Float32 bits of vectors of whole blocks."""
    rng = np.random.default_rng(7)
    tie = np.array([1 + k / 32 for k in range(32)])
    single = np.zeros(64, dtype=np.uint32)
    single[37] = float_bits([-3.14159])[0]
    floor = rough(rng, 4, 60, 90)
    floor[5] = 200 << 23
    edge = np.concatenate([rough(rng, 1, 100 - n, 100 - n) for n in (0, 30, 31, 32, 33)])
    almost = np.full(32, 0x3FFF_FFFF, dtype=np.uint32)
    almost[::2] |= SIGN
    return {
        "zeros": np.zeros(64, dtype=np.uint32),
        "negative zeros": np.full(32, SIGN, dtype=np.uint32),
        "subnormals alone": rough(rng, 2, 0, 0),
        "smallest normals": rough(rng, 3, 0, 5),
        "largest": rough(rng, 3, 230, 254),
        "ones": float_bits(np.ones(32)),
        "one element": single,
        "rounds up to 2**15": almost,
        "ties": float_bits(np.concatenate([tie * 2.0**-k for k in range(18)])),
        "ties below one large": float_bits(np.concatenate([[16384.0], np.arange(31) / 2, -np.arange(32) / 2])),
        "around ties": around_ties(),
        "exponent floor": floor,
        "edge of the window": edge,
        "everything": rough(rng, 8),
        "close 1": close(rng, 1),
        "close 8": close(rng, 8),
        "close 15": close(rng, 15),
        "normal": float_bits(rng.standard_normal(96)),
    }
