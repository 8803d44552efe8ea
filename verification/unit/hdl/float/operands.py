"""Operands for float32 units: the corners of the format, and pairs that lead to the corners of an operation."""

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.floats import Floats

Bits = NDArray[np.uint32]

#: Both zeros, subnormals, the ends of the normal range, ones, ties, infinities, and what would be NaNs.
CORNERS: Bits = np.array(
    [
        *(0x0000_0000, 0x0000_0001, 0x0040_0000, 0x007F_FFFF),
        *(0x0080_0000, 0x0080_0001, 0x00FF_FFFF, 0x0100_0000, 0x0180_0003),
        *(0x3380_0000, 0x3400_0000, 0x3F00_0000, 0x3F7F_FFFF, 0x3F80_0000, 0x3F80_0001, 0x3FFF_FFFF, 0x4000_0000),
        *(0x4B00_0000, 0x4B7F_FFFF, 0x4B80_0001, 0x7E80_0000, 0x7F00_0000, 0x7F7F_FFFE, 0x7F7F_FFFF),
        *(0x7F80_0000, 0x7F80_0001, 0x7FC0_0000, 0x7FFF_FFFF),
    ],
    dtype=np.uint32,
)


def floats(bits: Bits) -> Floats:
    return np.asarray(bits, dtype=np.uint32).view(np.float32)


def bits(x: Floats) -> Bits:
    return np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)


def signed_corners() -> Bits:
    return np.concatenate([CORNERS, CORNERS | np.uint32(0x8000_0000)])


def corner_pairs() -> tuple[Bits, Bits]:
    """Every corner with every other."""
    corners = signed_corners()
    return np.repeat(corners, len(corners)), np.tile(corners, len(corners))


def anything(rng: np.random.Generator, count: int) -> Bits:
    """Any bits at all."""
    return rng.integers(0, 1 << 32, count, dtype=np.uint32)


def near(rng: np.random.Generator, count: int, low: int, high: int) -> Bits:
    """Any sign, exponent fields from low to high, and fractions of which many have long runs of equal bits."""
    fraction = rng.integers(0, 1 << 23, count, dtype=np.uint32)
    places = rng.integers(0, 24, count, dtype=np.uint32)
    kind = rng.integers(0, 4, count)
    fraction = np.where(kind == 1, fraction >> places << places, fraction)
    fraction = np.where(kind == 2, fraction >> places, fraction)
    fraction = np.where(kind == 3, fraction | (np.uint32(1) << places) - np.uint32(1), fraction) & np.uint32(0x7F_FFFF)
    exponent = rng.integers(low, high + 1, count, dtype=np.uint32)
    return (rng.integers(0, 2, count, dtype=np.uint32) << 31 | exponent << 23 | fraction).astype(np.uint32)
