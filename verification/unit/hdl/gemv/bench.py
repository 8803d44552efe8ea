"""What the tests of the GEMV engine share: matrices, an independent packer of streams, exact results, and stalls."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tailrace.spec.formats import SUPERBLOCK, BeatKind, Format, ScaleKind
from tailrace.spec.numerics import SCALE_EXPONENT, round_to_float32

#: Cycles between results and maxima, for each number of lanes.
GAP = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4}

Context = Any
#: Scale kinds with one scale and minimum for a superblock.
SHARED = (ScaleKind.SUPERBLOCK, ScaleKind.SIGNED_SUPERBLOCK, ScaleKind.FLOAT16_SUPERBLOCK)


@dataclass
class Matrix:
    """Codes as stored (unsigned, or signed for 8 bits), and what they are multiplied with, all by row and block.

    Scales and minima are bits of float16, or exponents; those of a superblock are all the same. Scales of FP8 are those of the
    first halves of blocks, and minima those of the second ones. Subscales and subminima are there for each half of a block.
    """

    format: Format
    codes: np.ndarray
    scales: np.ndarray
    minima: np.ndarray
    subscales: np.ndarray
    subminima: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.scales)

    @property
    def stream_blocks(self) -> int:
        """Blocks of a row, of all planes."""
        return int(self.scales.shape[1])

    @property
    def blocks(self) -> int:
        """Blocks of the vector."""
        return self.stream_blocks // self.format.planes


@dataclass
class Vector:
    """``zero`` says which blocks count as zero, whatever else is said of them."""

    base: int
    exponents: np.ndarray
    mantissas: np.ndarray
    zero: np.ndarray = field(default_factory=lambda: np.zeros(1 << 12, dtype=bool))

    def block(self, n: int) -> dict[str, Any]:
        return {
            "mantissas": [int(x) for x in self.mantissas[n]],
            "exponent": int(self.exponents[n]),
            "totals": [int(half.sum(dtype=np.int64)) for half in np.split(self.mantissas[n], 2)],
            "zero": int(self.zero[n]),
        }


def bytes_in_row(format: Format) -> bool:
    """Whether a block's codes are whole bytes side by side, as those of I8."""
    return format.scale_kind is ScaleKind.UNIT


def code_range(format: Format) -> tuple[int, int]:
    return (-128, 128) if format.nibble_beats == 2 or bytes_in_row(format) else (0, 16 << format.high_bits)


def random_scales(rng: np.random.Generator, format: Format, shape: tuple[int, int]) -> np.ndarray:
    if format.scale_kind in SHARED:
        return np.repeat(rng.integers(0, 1 << 16, (shape[0], shape[1] // SUPERBLOCK)), SUPERBLOCK, axis=1)
    return rng.integers(0, {ScaleKind.EXPONENT: 31, ScaleKind.FLOAT8: 256}.get(format.scale_kind, 1 << 16), shape)


def scale_of_one(format: Format) -> int:
    return {ScaleKind.EXPONENT: 24, ScaleKind.FLOAT8: 0x78}.get(format.scale_kind, 0x3C00)


def largest_scale(format: Format, sign: int) -> int:
    return {ScaleKind.EXPONENT: 30, ScaleKind.FLOAT8: 255}.get(format.scale_kind, 0x7FFF | sign << 15)


def random_matrix(rng: np.random.Generator, format: Format, rows: int, blocks: int) -> Matrix:
    assert blocks % format.row_blocks == 0
    shape = rows, blocks * format.planes
    subscales, subminima = np.ones((*shape, 2), dtype=int), np.ones((*shape, 2), dtype=int)
    if format.scale_kind is ScaleKind.SUPERBLOCK:
        subscales[:] = rng.integers(0, 64, shape)[..., None]
        subminima[:] = rng.integers(0, 64, shape)[..., None]
    elif format.scale_kind is ScaleKind.SIGNED_SUPERBLOCK:
        subscales[:] = rng.integers(-32, 32, shape)[..., None]
    elif format.subscale_blocks and format.has_minimum:
        subscales, subminima = rng.integers(0, 16, (2, *shape, 2))
    elif format.subscale_blocks:
        subscales[:] = rng.integers(-128, 128, (*shape, 2))
    return Matrix(
        format,
        rng.integers(*code_range(format), (*shape, format.block_elements)),
        random_scales(rng, format, shape),
        random_scales(rng, format, shape),
        subscales,
        subminima,
    )


def random_vector(rng: np.random.Generator, blocks: int) -> Vector:
    spread = rng.integers(0, 17, (blocks, 1))
    mantissas = rng.integers(-32768, 32768, (blocks, 32)) >> spread
    return Vector(int(rng.integers(-172, 84)), rng.integers(0, 32, blocks), mantissas, rng.random(blocks) < 0.1)


def float16_parts(bits: int) -> tuple[int, int]:
    """Signed significand and position, by the formula in `tailrace.spec.numerics`."""
    exponent, fraction = bits >> 10 & 31, bits & 1023
    significand = fraction + 1024 * (exponent > 0)
    return (-significand if bits >> 15 else significand), max(exponent, 1) - 1


def scale_parts(format: Format, bits: int) -> tuple[int, int]:
    if format.scale_kind is ScaleKind.UNIT:
        return 1, -SCALE_EXPONENT
    if format.scale_kind is ScaleKind.FLOAT8:
        return float16_parts(bits << 7)
    return (1, bits) if format.scale_kind is ScaleKind.EXPONENT else float16_parts(bits)


def code_values(format: Format, codes: np.ndarray) -> list[int]:
    """The 32 integers that the elements of a vector's block are multiplied with."""
    stored = [int(c) for c in codes]
    if bytes_in_row(format):
        return [c & 15 for c in stored] + [16 * (c >> 4) for c in stored]
    return [format.codebook[c] if format.codebook else c - format.code_offset for c in stored]


def exact_sum(matrix: Matrix, row: int, vector: Vector) -> int:
    format, total = matrix.format, 0
    for block in range(matrix.stream_blocks):
        place = block // format.planes
        if vector.zero[place]:
            continue
        exponent = int(vector.exponents[place])
        mantissas = [int(x) for x in vector.mantissas[place]]
        values = code_values(format, matrix.codes[row, block])
        subscales = [int(matrix.subscales[row, block, j // 16]) for j in range(32)]
        halves = (slice(0, 32),) if format.scale_kind is not ScaleKind.FLOAT8 else (slice(0, 16), slice(16, 32))
        for half, scales in zip(halves, (matrix.scales, matrix.minima), strict=False):
            significand, position = scale_parts(format, int(scales[row, block]))
            dot = sum(s * v * x for s, v, x in zip(subscales[half], values[half], mantissas[half], strict=True))
            total += dot * significand << (position + exponent)
        if format.has_minimum:
            significand, position = float16_parts(int(matrix.minima[row, block]))
            if format.scale_kind is ScaleKind.SUPERBLOCK:
                significand = -significand
            sums = (sum(mantissas[:16]), sum(mantissas[16:]))
            dot = sum(s * int(subminimum) for s, subminimum in zip(sums, matrix.subminima[row, block], strict=True))
            total += dot * significand << (position + exponent)
    return total


def result(matrix: Matrix, row: int, vector: Vector, exponent: int = 0) -> int:
    return round_to_float32(exact_sum(matrix, row, vector), vector.base + exponent + SCALE_EXPONENT)


def packed_6_bits(subscales: list[int], subminima: list[int]) -> bytes:
    """The twelve bytes in ggml's ``block_q4_K``: the first four of each lie in the lowest 6 bits of a byte, the others in what is left."""
    packed = [0] * 12
    for n, (scale, minimum) in enumerate(zip(subscales, subminima, strict=True)):
        if n < 4:
            packed[n] |= scale
            packed[n + 4] |= minimum
        else:
            packed[n + 4] |= scale & 15 | (minimum & 15) << 4
            packed[n - 4] |= scale >> 4 << 6
            packed[n] |= minimum >> 4 << 6
    return bytes(packed)


def packed_signed(subscales: list[int]) -> bytes:
    """Two bytes of upper bits and four of lower ones, as in ggml's ``block_iq4_xs``."""
    stored = [subscale + 32 for subscale in subscales]
    upper, lower = (
        sum((s >> low & (1 << bits) - 1) << bits * n for n, s in enumerate(stored)) for low, bits in ((4, 2), (0, 4))
    )
    return upper.to_bytes(2, "little") + lower.to_bytes(4, "little")


def lane_stream(matrix: Matrix, lane: int, lanes: int, padding: np.random.Generator | None = None) -> Iterator[bytes]:
    """Beats of one lane. What pads them is zeros, or random, since the device must not look at it."""
    format, blocks = matrix.format, matrix.stream_blocks
    groups = -(-matrix.rows // lanes)

    def place(n: int) -> tuple[int, int] | None:
        row = lane + lanes * (n // blocks)
        return (row, n % blocks) if n < groups * blocks and row < matrix.rows else None

    def pad(size: int) -> bytes:
        return bytes(size) if padding is None else padding.bytes(size)

    def scale_beat(n: int) -> Iterator[bytes]:
        kind = format.scale_kind
        if kind is ScaleKind.SUPERBLOCK:
            at = place(n)
            if not at:
                yield pad(16)
                return
            row, block = at
            yield int(matrix.scales[at]).to_bytes(2, "little") + int(matrix.minima[at]).to_bytes(2, "little")
            served = slice(block, block + SUPERBLOCK)
            yield packed_6_bits(matrix.subscales[row, served, 0].tolist(), matrix.subminima[row, served, 0].tolist())
            return
        size = 1 if kind in (ScaleKind.EXPONENT, ScaleKind.FLOAT8) else 2
        for at in map(place, range(n, n + format.scale_blocks, SUPERBLOCK if kind in SHARED else 1)):
            yield int(matrix.scales[at]).to_bytes(size, "little") if at else pad(size)
            if kind is ScaleKind.SIGNED_SUPERBLOCK:
                yield packed_signed(matrix.subscales[at[0], at[1] : at[1] + SUPERBLOCK, 0].tolist()) if at else pad(6)
            if format.has_minimum or kind is ScaleKind.FLOAT8:
                yield int(matrix.minima[at]).to_bytes(size, "little") if at else pad(size)

    def high_part(codes: np.ndarray) -> bytes:
        bits = format.high_bits
        return sum((int(c) >> 4) << bits * j for j, c in enumerate(codes)).to_bytes(4 * bits, "little")

    first = True
    for kind, n in format.schedule(groups * matrix.blocks):
        beat = b""
        if kind is BeatKind.SCALE:
            beat = b"".join(scale_beat(n))
        elif kind is BeatKind.SUBSCALE:
            for at in map(place, range(n, n + format.subscale_blocks)):
                if at:
                    upper = matrix.subminima[at] << 4 if format.has_minimum else 0
                    beat += (matrix.subscales[at] | upper).astype(np.int8).tobytes()
                else:
                    beat += pad(2)
        elif kind is BeatKind.HIGH:
            for at in map(place, range(n, n + format.high_blocks)):
                beat += high_part(matrix.codes[at]) if at else pad(4 * format.high_bits)
        elif at := place(n):
            codes = [int(c) for c in matrix.codes[at]]
            if bytes_in_row(format):
                beat = bytes(c & 255 for c in codes)
            else:
                nibbles = [(c >> 4 if format.nibble_beats == 2 and first else c) & 15 for c in codes]
                beat = bytes(nibbles[j] | nibbles[j + 16] << 4 for j in range(16))
            first = not first
        else:
            beat = pad(16)
        assert len(beat) == 16
        yield beat


def stream(matrix: Matrix, lanes: int, padding: np.random.Generator | None = None) -> list[int]:
    """Bus beats of a matrix."""
    beats = [
        int.from_bytes(b"".join(parts), "little")
        for parts in zip(*(lane_stream(matrix, lane, lanes, padding) for lane in range(lanes)), strict=True)
    ]
    assert len(beats) == matrix.format.matrix_beats(matrix.rows, matrix.blocks, lanes)
    return beats


class Stalls:
    """Whether a side of a stream pauses in this cycle: never, or at random in runs of several cycles."""

    def __init__(self, rng: np.random.Generator, share: float) -> None:
        self.rng, self.share, self.left, self.pausing = rng, share, 0, False

    def __call__(self) -> bool:
        if not self.share:
            return False
        if not self.left:
            self.pausing = bool(self.rng.random() < self.share)
            self.left = int(self.rng.integers(1, 8))
        self.left -= 1
        return self.pausing
