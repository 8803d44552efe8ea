"""The blocks of a GGUF file, taken apart: scales, subscales, upper code bits and nibbles, each in a plane of its own.

Nothing is computed: bytes, nibbles and bits move, and `join_planes` moves them back. Sources: ``ggml-common.h`` for where the
parts of a block lie, ``dequantize_row_*`` in ``ggml-quants.c`` for which bits belong to which element.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK, LANE_BYTES, SUPERBLOCK, Format, ScaleKind

Bytes = NDArray[np.uint8]

_LOWER, _FOUR = np.uint8(0x0F), np.uint8(4)


@dataclass(frozen=True)
class BlockFields:
    """Where the parts of a block of the file lie."""

    scale: slice
    subscale: slice
    high: slice
    codes: slice

    @classmethod
    def of(cls, fmt: Format) -> "BlockFields":
        """The parts of a block of `fmt`."""
        codes, high = fmt.file_elements * fmt.nibble_beats // 2, fmt.file_elements * fmt.high_bits // 8
        side = fmt.file_bytes - codes - high
        if fmt.subscale_blocks:
            subscale, scale = codes + high, codes + high + 2 * fmt.row_blocks
            return cls(slice(scale, None), slice(subscale, scale), slice(codes, subscale), slice(codes))
        return cls(slice(side), slice(0), slice(side, side + high), slice(side + high, None))


@dataclass(frozen=True)
class Planes:
    """The parts of the rows of a matrix; ``blocks`` are those of 32 elements in a row.

    Attributes
    ----------
    scale : ndarray of uint8, shape (rows, file blocks in a row, bytes)
        What scale beats hold.
    subscale : ndarray of uint8, shape (rows, file blocks in a row, two for each 32 elements, or 0)
    high : ndarray of uint8, shape (rows, blocks, 4 * high_bits)
    nibbles : tuple of ndarray of uint8, shape (rows, blocks, 16)
        One for each nibble beat of a block.
    """

    scale: Bytes
    subscale: Bytes
    high: Bytes
    nibbles: tuple[Bytes, ...]


def split_blocks(fmt: Format, blocks: Bytes) -> Planes:
    """Take the rows of a matrix apart.

    Parameters
    ----------
    fmt : Format
    blocks : ndarray of uint8, shape (rows, bytes of a row)
    """
    rows = len(blocks)
    fields = BlockFields.of(fmt)
    table = blocks.reshape(rows, -1, fmt.file_bytes)
    codes, high = table[..., fields.codes], table[..., fields.high]
    nibbles: tuple[Bytes, ...]
    if fmt.nibble_beats == 2:
        nibbles = _nibble_planes(codes)
    elif _lies_in_blocks(fmt):
        nibbles = (codes.reshape(rows, -1, LANE_BYTES),)
    elif fmt.scale_kind is ScaleKind.FLOAT8:
        upper, lower = _nibble_planes(codes.reshape(rows, -1, LANE_BYTES))
        nibbles = (np.concatenate((lower, upper), axis=-1),)
    else:
        outer, pairs = _superblock_order(fmt)
        parts = np.empty((*codes.shape[:2], outer, 2, pairs, LANE_BYTES), dtype=np.uint8)
        upper, lower = _nibble_planes(codes.reshape(*codes.shape[:2], outer, pairs, BLOCK))
        parts[..., 0, :, :], parts[..., 1, :, :] = lower, upper
        nibbles = (parts.reshape(rows, -1, LANE_BYTES),)
        if fmt.high_bits:
            high = _transposed(high, fmt.high_bits).reshape(rows, -1, 4 * fmt.high_bits)
    return Planes(table[..., fields.scale], table[..., fields.subscale], high, nibbles)


def join_planes(fmt: Format, planes: Planes) -> Bytes:
    """Put the rows of a matrix together again; the inverse of `split_blocks`.

    Returns
    -------
    ndarray of uint8, shape (rows, bytes of a row)
    """
    rows, count = planes.scale.shape[:2]
    fields = BlockFields.of(fmt)
    table = np.empty((rows, count, fmt.file_bytes), dtype=np.uint8)
    table[..., fields.scale], table[..., fields.subscale] = planes.scale, planes.subscale
    codes, high = table[..., fields.codes], planes.high.reshape(rows, count, -1)
    if fmt.nibble_beats == 2:
        codes[...] = _join_nibbles(*planes.nibbles)
    elif _lies_in_blocks(fmt):
        codes[...] = planes.nibbles[0].reshape(codes.shape)
    elif fmt.scale_kind is ScaleKind.FLOAT8:
        lower, upper = np.split(planes.nibbles[0], 2, axis=-1)
        codes[...] = _join_nibbles(upper, lower).reshape(codes.shape)
    else:
        outer, pairs = _superblock_order(fmt)
        parts = planes.nibbles[0].reshape(rows, count, outer, 2, pairs, LANE_BYTES)
        codes[...] = _join_nibbles(parts[..., 1, :, :], parts[..., 0, :, :]).reshape(codes.shape)
        if fmt.high_bits:
            high = _gathered(high.reshape(rows, count, SUPERBLOCK, -1), fmt.high_bits)
    table[..., fields.high] = high
    return table.reshape(rows, -1)


def _lies_in_blocks(fmt: Format) -> bool:
    """Whether nibbles lie in the file as in a nibble beat, block after block; those of no file's format do."""
    return fmt.file_elements == BLOCK or fmt.scale_kind is ScaleKind.SIGNED_SUPERBLOCK or fmt.ggml_type < 0


def _superblock_order(fmt: Format) -> tuple[int, int]:
    """How the nibbles of a superblock lie in the file: so many times, so many blocks in lower nibbles, then in upper ones."""
    return (2, 2) if fmt.scale_kind is ScaleKind.FLOAT16_SUPERBLOCK else (4, 1)


def _nibble_planes(codes: Bytes) -> tuple[Bytes, Bytes]:
    """Upper and lower nibbles of bytes (..., 2 n), each packed into bytes (..., n): those of byte j + n lie above."""
    first, second = np.split(codes, 2, axis=-1)
    return first >> _FOUR | (second & ~_LOWER), first & _LOWER | (second << _FOUR)


def _join_nibbles(upper: Bytes, lower: Bytes) -> Bytes:
    """The bytes whose nibbles these are; the inverse of `_nibble_planes`."""
    return np.concatenate((upper << _FOUR | (lower & _LOWER), upper & ~_LOWER | (lower >> _FOUR)), axis=-1)


def _transposed(high: Bytes, bits: int) -> Bytes:
    """Upper bits of superblocks, from bytes of one element and many blocks to bytes of one block and many elements.

    Shape (..., 32 * bits) in the file's order; (..., 8, 4 * bits) for each block.
    """
    blocks = 8 // bits
    words = np.ascontiguousarray(high).view("<u8")
    turned = _transpose_bits(words, bits).view(np.uint8).reshape(*high.shape[:-1], bits, -1, blocks)
    return turned.swapaxes(-1, -2).reshape(*high.shape[:-1], SUPERBLOCK, 4 * bits)


def _gathered(high: Bytes, bits: int) -> Bytes:
    """The inverse of `_transposed`."""
    blocks = 8 // bits
    turned = np.ascontiguousarray(high.reshape(*high.shape[:-2], bits, blocks, 4 * bits).swapaxes(-1, -2))
    words = turned.reshape(*high.shape[:-2], -1).view("<u8")
    return _transpose_bits(words, bits).view(np.uint8)


#: Steps of a transposition of squares: places to shift, and which bits change places with those that far up.
_STEPS = {
    1: ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)),
    2: ((6, 0x00CC00CC00CC00CC), (12, 0x0000F0F00000F0F0)),
}


def _transpose_bits(words: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """Transpose squares: 8 bytes of 8 bits (`bits` 1), or twice 4 bytes of 4 pairs of bits (`bits` 2)."""
    for shift, mask in _STEPS[bits]:
        places = np.uint64(shift)
        change = (words ^ (words >> places)) & np.uint64(mask)
        words = words ^ change ^ (change << places)
    return words


def random_blocks(rng: np.random.Generator, fmt: Format, rows: int, columns: int) -> Bytes:
    """A matrix with any codes and subscales, and scales between 2**-7 and 2**-3, as a GGUF file would hold it.

    Parameters
    ----------
    rng : numpy.random.Generator
    fmt : Format
    rows, columns : int

    Returns
    -------
    ndarray of uint8, shape (rows, bytes of a row)
    """
    raw = rng.integers(0, 256, (rows, columns // fmt.file_elements, fmt.file_bytes), dtype=np.uint8)
    scales = raw[..., BlockFields.of(fmt).scale]
    if fmt.scale_kind is ScaleKind.EXPONENT:
        scales[...] = rng.integers(100, 120, scales.shape)
    elif fmt.scale_kind is ScaleKind.FLOAT8:
        scales[...] = rng.integers(0, 0x20, scales.shape)
    else:
        for byte in range(1, 2 + 2 * fmt.has_minimum, 2):
            # The upper byte of a float16.
            scales[..., byte] = rng.integers(0x20, 0x30, scales.shape[:-1])
    return raw.reshape(rows, -1)
