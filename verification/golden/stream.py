"""From a matrix's stream in device memory to its codes, scales and minima."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK, LANE_BYTES, Format


@dataclass(frozen=True)
class Matrix:
    """A weight matrix, unpacked. ``w = (code * scale + minimum) * 2**-24``.

    Attributes
    ----------
    codes : ndarray of int8, shape (blocks, rows, 32)
        Codes, less the format's offset.
    code_limit : int
        Largest magnitude that a code of the format can have.
    scales, minima : ndarray of float32, shape (blocks, rows)
        ``significand * 2**position``: integers, in units of 2**-24. No minima for formats without them.
    lowest : int
        Smallest position of a scale or minimum that is not zero: all of them are multiples of 2**lowest.
    largest_scales, largest_minima : ndarray of float64, shape (blocks,)
        Largest magnitude in each column of blocks.
    """

    codes: NDArray[np.int8]
    code_limit: int
    scales: NDArray[np.float32]
    minima: NDArray[np.float32] | None
    lowest: int
    largest_scales: NDArray[np.float64]
    largest_minima: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Bytes of host memory that the matrix occupies."""
        return self.codes.nbytes + self.scales.nbytes + (0 if self.minima is None else self.minima.nbytes)


def unpack(stream: NDArray[np.uint8], weights: Format, rows: int, blocks: int, lanes: int) -> Matrix:
    """Unpack a matrix.

    Parameters
    ----------
    stream : ndarray of uint8, shape (weights.matrix_bytes(rows, blocks, lanes),)
    weights : Format
    rows, blocks : int
        Shape of the matrix; blocks of 32 elements.
    lanes : int
        Lanes of the build that the stream was laid out for.

    Returns
    -------
    Matrix
    """
    beats = stream.reshape(-1, lanes, LANE_BYTES)
    groups = -(-rows // lanes)
    index = np.arange(groups * blocks)

    def matrix_order(values: NDArray[np.generic]) -> NDArray[np.generic]:
        # (blocks of a lane, lanes, ...) to (blocks of a row, rows, ...): row group * lanes + lane.
        values = values.reshape(groups, blocks, lanes, *values.shape[2:])
        return values.swapaxes(0, 1).reshape(blocks, groups * lanes, *values.shape[3:])[:, :rows]

    codes = np.ascontiguousarray(matrix_order(_codes(beats, weights, index)))
    fields = beats[_scale_beats(weights, index)].view("<u2")
    per_block = 2 if weights.has_minimum else 1
    first = (index % weights.blocks_per_scale_beat * per_block)[:, None, None]
    scale_bits = matrix_order(np.take_along_axis(fields, first, axis=2)[..., 0])
    scales, positions = _significands(scale_bits)
    lowest = [positions[scales != 0]]
    minima = None
    if weights.has_minimum:
        minimum_bits = matrix_order(np.take_along_axis(fields, first + 1, axis=2)[..., 0])
        minima, positions = _significands(minimum_bits)
        lowest.append(positions[minima != 0])
    bits = 4 * weights.nibble_beats + weights.high_bits
    return Matrix(
        codes=codes,
        code_limit=(1 << bits) - 1 if weights.has_minimum else 1 << bits - 1,
        scales=scales,
        minima=minima,
        lowest=int(np.concatenate(lowest).min(initial=30)),
        largest_scales=np.abs(scales).max(axis=1).astype(np.float64),
        largest_minima=np.zeros(blocks) if minima is None else np.abs(minima).max(axis=1).astype(np.float64),
    )


def _beats_before(weights: Format, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Beats of a lane's stream before the first one that belongs to block `index`, as `Format.schedule` orders them."""
    beats = index * weights.nibble_beats - (-index // weights.blocks_per_scale_beat)
    if weights.high_bits:
        beats = beats - (-index // weights.blocks_per_high_beat)
    return beats


def _scale_beats(weights: Format, index: NDArray[np.int64]) -> NDArray[np.int64]:
    return _beats_before(weights, index - index % weights.blocks_per_scale_beat)


def _codes(beats: NDArray[np.uint8], weights: Format, index: NDArray[np.int64]) -> NDArray[np.int8]:
    """Codes less the offset, shape (blocks of a lane, lanes, 32)."""
    first = _beats_before(weights, index + 1) - weights.nibble_beats
    codes = _nibbles(beats[first])
    if weights.nibble_beats == 2:
        # Upper nibbles come first. Bytes wrap, so the sign needs no care.
        codes = np.bitwise_or(codes << 4, _nibbles(beats[first + 1]))
    if weights.high_bits:
        start = index - index % weights.blocks_per_high_beat
        due_after_scale = start % weights.blocks_per_scale_beat == 0
        bits = np.unpackbits(beats[_beats_before(weights, start) + due_after_scale], axis=2, bitorder="little")
        place = (index % weights.blocks_per_high_beat * BLOCK)[:, None, None] + np.arange(BLOCK)
        codes = np.bitwise_or(codes, np.take_along_axis(bits, place, axis=2) << 4)
    return np.subtract(codes, np.uint8(weights.code_offset)).view(np.int8)


def _nibbles(beats: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate((beats & 15, beats >> 4), axis=2)


def _significands(float16: NDArray[np.generic]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """``significand * 2**position`` of float16 bits, and the positions (see `tailrace.spec.numerics`).

    Infinities and NaNs are read by the same formula, which is why this is not a conversion of float16.
    """
    bits = float16.astype(np.int32)
    exponent, fraction = bits >> 10 & 31, bits & 1023
    position = np.maximum(exponent, 1) - 1
    significand = np.where(bits & 0x8000, -1, 1) * (fraction + 1024 * (exponent > 0))
    return np.ldexp(significand.astype(np.float32), position), position
