"""What the tests of the GEMV engine share: matrices, an independent packer of streams, exact results, and stalls."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailrace.spec.config import Config
from tailrace.spec.formats import BeatKind, Format
from tailrace.spec.numerics import SCALE_EXPONENT, round_to_float32

Context = Any


@dataclass
class Matrix:
    """Codes as stored (unsigned, or signed for 8 bits), and bits of scales and minima, by row and block."""

    format: Format
    codes: np.ndarray
    scales: np.ndarray
    minima: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.scales)

    @property
    def blocks(self) -> int:
        return self.scales.shape[1]


@dataclass
class Vector:
    base: int
    exponents: np.ndarray
    mantissas: np.ndarray

    def block(self, n: int) -> dict[str, Any]:
        return {
            "mantissas": [int(x) for x in self.mantissas[n]],
            "exponent": int(self.exponents[n]),
            "total": int(self.mantissas[n].sum(dtype=np.int64)),
        }


def code_range(format: Format) -> tuple[int, int]:
    return (-128, 128) if format.nibble_beats == 2 else (0, 16 << format.high_bits)


def random_matrix(rng: np.random.Generator, format: Format, rows: int, blocks: int) -> Matrix:
    codes = rng.integers(*code_range(format), (rows, blocks, 32))
    scales, minima = (rng.integers(0, 1 << 16, (rows, blocks)) for _ in range(2))
    return Matrix(format, codes, scales, minima)


def random_vector(rng: np.random.Generator, blocks: int) -> Vector:
    spread = rng.integers(0, 17, (blocks, 1))
    mantissas = rng.integers(-32768, 32768, (blocks, 32)) >> spread
    return Vector(int(rng.integers(-172, 84)), rng.integers(0, 32, blocks), mantissas)


def float16_parts(bits: int) -> tuple[int, int]:
    """Signed significand and position, by the formula in `tailrace.spec.numerics`."""
    exponent, fraction = bits >> 10 & 31, bits & 1023
    significand = fraction + 1024 * (exponent > 0)
    return (-significand if bits >> 15 else significand), max(exponent, 1) - 1


def exact_sum(matrix: Matrix, row: int, vector: Vector) -> int:
    total = 0
    for block in range(matrix.blocks):
        exponent = int(vector.exponents[block])
        mantissas = [int(x) for x in vector.mantissas[block]]
        codes = [int(c) - matrix.format.code_offset for c in matrix.codes[row, block]]
        significand, position = float16_parts(int(matrix.scales[row, block]))
        total += sum(c * x for c, x in zip(codes, mantissas, strict=True)) * significand << (position + exponent)
        if matrix.format.has_minimum:
            significand, position = float16_parts(int(matrix.minima[row, block]))
            total += sum(mantissas) * significand << (position + exponent)
    return total


def results(matrix: Matrix, vectors: list[Vector]) -> list[int]:
    return [
        round_to_float32(exact_sum(matrix, row, vector), vector.base + SCALE_EXPONENT)
        for row in range(matrix.rows)
        for vector in vectors
    ]


def lane_stream(matrix: Matrix, lane: int, lanes: int, padding: np.random.Generator | None = None) -> Iterator[bytes]:
    """Beats of one lane. What pads them is zeros, or random, since the device must not look at it."""
    format, blocks = matrix.format, matrix.blocks
    groups = -(-matrix.rows // lanes)

    def place(n: int) -> tuple[int, int] | None:
        row = lane + lanes * (n // blocks)
        return (row, n % blocks) if n < groups * blocks and row < matrix.rows else None

    def pad(size: int) -> bytes:
        return bytes(size) if padding is None else padding.bytes(size)

    first = True
    for kind, n in format.schedule(groups * blocks):
        beat = b""
        if kind is BeatKind.SCALE:
            for at in map(place, range(n, n + format.blocks_per_scale_beat)):
                beat += int(matrix.scales[at]).to_bytes(2, "little") if at else pad(2)
                if format.has_minimum:
                    beat += int(matrix.minima[at]).to_bytes(2, "little") if at else pad(2)
        elif kind is BeatKind.HIGH:
            for at in map(place, range(n, n + format.blocks_per_high_beat)):
                beat += (
                    sum((int(c) >> 4 & 1) << j for j, c in enumerate(matrix.codes[at])).to_bytes(4, "little") if at else pad(4)
                )
        elif at := place(n):
            codes = [int(c) for c in matrix.codes[at]]
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


def command(matrix: Matrix, vectors: list[Vector], config: Config) -> dict[str, Any]:
    bases = [v.base for v in vectors] + [0] * (config.right_hand_sides - len(vectors))
    return {
        "format": matrix.format.number,
        "rows": matrix.rows,
        "blocks": matrix.blocks,
        "slots": len(vectors),
        "bases": bases,
    }


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
