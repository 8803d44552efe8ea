"""From a matrix's stream in device memory to its codes, scales and minima."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK, LANE_BYTES, SUPERBLOCK, BeatKind, Format, ScaleKind
from tailrace.spec.numerics import SCALE_EXPONENT

#: Largest position of a float16's last bit.
_HIGHEST = 30


@dataclass(frozen=True)
class Matrix:
    """A matrix, unpacked. ``w = (code * scale + minimum) * 2**-24``.

    A *piece* is what shares a scale and a minimum: a block of 32 elements, or half a block in formats with a subscale for each
    16.

    Attributes
    ----------
    codes : ndarray of int8, shape (pieces, rows, elements)
        Codes, less the format's offset; `elements` is 32 or 16.
    code_limit : int
        Largest magnitude that a code of the format can have.
    scales : ndarray of float32, shape (pieces, rows)
        ``significand * subscale * 2**position``: integers, in units of 2**-24.
    minima : ndarray of float32, shape (pieces, rows)
        The same for minima; None for formats without them.
    lowest : int
        All scales and minima are multiples of 2**lowest.
    largest_scales, largest_minima : ndarray of float64, shape (pieces,)
        Largest magnitude in each column of pieces.
    planes : int
        Blocks, one after the other, that meet the same block of the vector.
    """

    codes: NDArray[np.int8]
    code_limit: int
    scales: NDArray[np.float32]
    minima: NDArray[np.float32] | None
    lowest: int
    largest_scales: NDArray[np.float64]
    largest_minima: NDArray[np.float64]
    planes: int

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
        Shape of the matrix; blocks of each plane.
    lanes : int
        Lanes of the build that the stream was laid out for.

    Returns
    -------
    Matrix
    """
    beats = stream.reshape(-1, lanes, LANE_BYTES)
    groups, blocks = -(-rows // lanes), blocks * weights.planes
    index = np.arange(groups * blocks)

    def matrix_order(values: NDArray[Any]) -> NDArray[Any]:
        # (blocks of a lane, lanes, ...) to (blocks of a row, rows, ...): row group * lanes + lane.
        values = values.reshape(groups, blocks, lanes, *values.shape[2:])
        return values.swapaxes(0, 1).reshape(blocks, groups * lanes, *values.shape[3:])[:, :rows]

    codes = np.ascontiguousarray(matrix_order(_codes(beats, weights, index)))
    if weights.scale_kind is ScaleKind.UNIT:
        scales = np.full((blocks, rows), 2.0**-SCALE_EXPONENT, dtype=np.float32)
        return _matrix(weights, codes, scales, None, -SCALE_EXPONENT)
    scales, minima, positions = _scales(beats, weights, index)

    def pieces(values: NDArray[np.float32]) -> NDArray[np.float32]:
        values = matrix_order(values)
        return values.transpose(0, 2, 1).reshape(2 * blocks, rows) if weights.splits_blocks else values

    if weights.splits_blocks:
        # The two halves of a block become pieces of their own.
        codes = np.ascontiguousarray(codes.reshape(blocks, rows, 2, BLOCK // 2).swapaxes(1, 2)).reshape(
            2 * blocks, rows, BLOCK // 2
        )
    return _matrix(weights, codes, pieces(scales), None if minima is None else pieces(minima), int(positions.min()))


def _matrix(
    weights: Format,
    codes: NDArray[np.int8],
    scales: NDArray[np.float32],
    minima: NDArray[np.float32] | None,
    lowest: int,
) -> Matrix:
    scales = np.ascontiguousarray(scales)
    minima = None if minima is None else np.ascontiguousarray(minima)
    return Matrix(
        codes=codes,
        code_limit=_code_limit(weights),
        scales=scales,
        minima=minima,
        lowest=lowest,
        largest_scales=np.abs(scales).max(axis=1).astype(np.float64),
        largest_minima=np.zeros(len(scales)) if minima is None else np.abs(minima).max(axis=1).astype(np.float64),
        planes=weights.planes,
    )


def _code_limit(weights: Format) -> int:
    if weights.codebook:
        return max(map(abs, weights.codebook))
    if weights.scale_kind is ScaleKind.UNIT:
        return 1 << 7
    bits = 4 * weights.nibble_beats + weights.high_bits
    return (1 << bits) - 1 if weights.has_minimum else 1 << bits - 1


def _beats_before(weights: Format, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Beats of a lane's stream before the first one that belongs to block `index`, as `Format.schedule` orders them."""
    beats = index * weights.nibble_beats
    for _, period in weights.side_beats():
        beats = beats - (-index // period)
    return beats


def _side_beats(weights: Format, wanted: BeatKind, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The side beat that serves each block, and the block's number among those that it serves."""
    periods = dict(weights.side_beats())
    start = index - index % periods[wanted]
    beat = _beats_before(weights, start)
    for kind, period in periods.items():
        if kind is wanted:
            break
        beat = beat + (start % period == 0)
    return beat, index % periods[wanted]


def _codes(beats: NDArray[np.uint8], weights: Format, index: NDArray[np.int64]) -> NDArray[np.int8]:
    """Codes less the offset, shape (blocks of a lane, lanes, 32)."""
    if weights.scale_kind is ScaleKind.UNIT:
        # Byte j is multiplied with elements j and j + 16: the upper nibble keeps its place and its sign.
        return np.concatenate((beats & 0x0F, beats & 0xF0), axis=2).view(np.int8)
    first = _beats_before(weights, index + 1) - weights.nibble_beats
    codes = _nibbles(beats[first])
    if weights.nibble_beats == 2:
        # Upper nibbles come first. Bytes wrap, so the sign needs no care.
        codes = np.bitwise_or(codes << 4, _nibbles(beats[first + 1]))
    if weights.high_bits:
        beat, number = _side_beats(weights, BeatKind.HIGH, index)
        bits = np.unpackbits(beats[beat], axis=2, bitorder="little")
        for bit in range(weights.high_bits):
            place = (number * BLOCK * weights.high_bits)[:, None, None] + np.arange(BLOCK) * weights.high_bits + bit
            codes = np.bitwise_or(codes, np.take_along_axis(bits, place, axis=2) << 4 + bit)
    if weights.codebook:
        return np.array(weights.codebook, dtype=np.int8)[codes]
    return np.subtract(codes, np.uint8(weights.code_offset)).view(np.int8)


def _nibbles(beats: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate((beats & 15, beats >> 4), axis=2)


def _scales(
    beats: NDArray[np.uint8], weights: Format, index: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.int32]]:
    """Scales and minima, of shape (blocks of a lane, lanes), or two of each for a block; and their positions."""
    beat, number = _side_beats(weights, BeatKind.SCALE, index)
    scale_beats = beats[beat]

    def float16(place: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        return _significands(np.take_along_axis(scale_beats.view("<u2"), place[:, None, None], axis=2)[..., 0])

    match weights.scale_kind:
        case ScaleKind.EXPONENT:
            position = (np.take_along_axis(scale_beats, number[:, None, None], axis=2)[..., 0] & 31).astype(np.int32)
            return np.ldexp(np.float32(1), position), None, position
        case ScaleKind.FLOAT8:
            octets = np.take_along_axis(scale_beats, 2 * number[:, None, None] + np.arange(2), axis=2)
            scales, positions = _significands(octets.astype(np.uint16) << 7)
            return scales, None, positions
        case ScaleKind.SUPERBLOCK:
            subscales, subminima = _six_bits(scale_beats[..., 4:], number)
            scales, positions = float16(np.zeros_like(number))
            minima, minimum_positions = float16(np.ones_like(number))
            return scales * subscales, -minima * subminima, np.minimum(positions, minimum_positions)
        case ScaleKind.SIGNED_SUPERBLOCK:
            superblock, block = np.divmod(number, SUPERBLOCK)
            scales, positions = float16(4 * superblock)
            # Bytes 2 and 3 have two upper bits for each block, bytes 4 to 7 four lower ones.
            upper = np.take_along_axis(scale_beats, (8 * superblock + 2 + block // 4)[:, None, None], axis=2)[..., 0]
            lower = np.take_along_axis(scale_beats, (8 * superblock + 4 + block // 2)[:, None, None], axis=2)[..., 0]
            stored = lower >> (4 * (block % 2))[:, None] & 15 | (upper >> (2 * (block % 4))[:, None] & 3) << 4
            return scales * (stored.astype(np.int32) - 32).astype(np.float32), None, positions
    place = number // (SUPERBLOCK if weights.scale_kind is ScaleKind.FLOAT16_SUPERBLOCK else 1) * (1 + weights.has_minimum)
    scales, positions = float16(place)
    pairs: NDArray[np.uint8] | None = None
    if weights.subscale_blocks:
        beat, number = _side_beats(weights, BeatKind.SUBSCALE, index)
        pairs = np.take_along_axis(beats[beat], 2 * number[:, None, None] + np.arange(2), axis=2)
    if not weights.has_minimum:
        return scales if pairs is None else scales[..., None] * pairs.view(np.int8), None, positions
    minima, minimum_positions = float16(place + 1)
    positions = np.minimum(positions, minimum_positions)
    if pairs is None:
        return scales, minima, positions
    return scales[..., None] * (pairs & 15), minima[..., None] * (pairs >> 4), positions


def _six_bits(packed: NDArray[np.uint8], block: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Subscale and subminimum of one of 8 blocks from ggml's twelve bytes, shape (blocks of a lane, lanes, 12)."""

    def byte(place: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.take_along_axis(packed, place[:, None, None], axis=2)[..., 0]

    # Blocks 0 to 3: six bits of bytes 0 to 3 and 4 to 7. Blocks 4 to 7: four bits of bytes 8 to 11, and the two upper bits that
    # the others left in theirs.
    early, k = (block < 4)[:, None], block % 4
    first, second, third = byte(k), byte(k + 4), byte(k + 8)
    subscales = np.where(early, first & 63, third & 15 | first >> 6 << 4)
    return subscales, np.where(early, second & 63, third >> 4 | second >> 6 << 4)


def _significands(float16: NDArray[np.generic]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """``significand * 2**position`` of float16 bits, and the positions, the highest one for zeros (`tailrace.spec.numerics`).

    Infinities and NaNs are read by the same formula, which is why this is not a conversion of float16.
    """
    bits = float16.astype(np.int32)
    exponent, fraction = bits >> 10 & 31, bits & 1023
    position = np.maximum(exponent, 1) - 1
    significand = np.where(bits & 0x8000, -1, 1) * (fraction + 1024 * (exponent > 0))
    return np.ldexp(significand.astype(np.float32), position), np.where(significand == 0, _HIGHEST, position)
