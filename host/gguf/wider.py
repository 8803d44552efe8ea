"""Weights of formats that the device does not read, in one that it reads, with exactly the same values and more bits.

Each weight of these formats is a whole number times a float16 of its block, or the difference of two such products. The number
is a subscale for 16 weights times a code. Where these lie in a block: ``dequantize_row_*`` in ggml's ``ggml-quants.c``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK, BY_NAME, Format

from .blocks import Planes, join_planes
from .types import TENSOR_TYPE_NUMBERS, TENSOR_TYPES

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]
#: A part of blocks of the file, of shape (rows, blocks, bytes), as numbers of shape (rows, blocks, count).
Part = Callable[[Bytes], NDArray[np.generic]]

#: Half blocks of 32 elements in a superblock.
_HALVES = 16


@dataclass(frozen=True)
class Wider:
    """How the device has a format that it does not read.

    Attributes
    ----------
    format : Format
    exponent : int
        Power of two that products are multiplied with.
    scales : callable
        The float16 numbers of blocks of the file, of shape (rows, blocks, bytes).
    blocks : callable
        Blocks of `format` from those of the file.
    """

    format: Format
    exponent: int
    scales: Part
    blocks: Callable[[Bytes], Bytes]


def widened(name: str, rows: Bytes) -> Bytes:
    """Rows of a type of `WIDER` as blocks of its format.

    Parameters
    ----------
    name : str
        Of the type.
    rows : ndarray of uint8, shape (rows, bytes of a row)

    Returns
    -------
    ndarray of uint8, shape (rows, bytes of a row)
    """
    size = TENSOR_TYPES[TENSOR_TYPE_NUMBERS[name]].bytes
    return WIDER[name].blocks(rows.reshape(len(rows), -1, size)).reshape(len(rows), -1)


def _view(part: slice, kind: str) -> Part:
    return lambda table: np.ascontiguousarray(table[..., part]).view(kind)


def _octets(scales: NDArray[np.generic]) -> Bytes:
    return np.ascontiguousarray(scales.astype("<f2")).view(np.uint8)


def _pairs(codes: NDArray[np.generic]) -> Bytes:
    """Nibble beats of codes, shape (..., 32), without their upper bits; shape (..., 16)."""
    nibbles = codes.astype(np.uint8) & np.uint8(15)
    return nibbles[..., :16] | nibbles[..., 16:] << np.uint8(4)


def _held(fmt: Format, scales: NDArray[np.generic], subscales: NDArray[np.generic], codes: Integers) -> Bytes:
    """Blocks of 256 weights: scales of shape (rows, blocks, 1 or 2), 16 bytes with subscales of each, and 256 codes."""
    stored = codes.reshape(len(codes), -1, BLOCK)
    bits = fmt.high_bits
    upper = (stored >> 4).astype(np.uint8)[..., None] >> np.arange(bits, dtype=np.uint8) & 1
    planes = Planes(
        scale=_octets(scales),
        subscale=subscales.astype(np.int8).view(np.uint8),
        high=np.packbits(upper.reshape(*stored.shape[:2], -1), axis=-1, bitorder="little"),
        nibbles=(_pairs(stored),),
    )
    return join_planes(fmt, planes)


def _whole(name: str, table: Bytes, unit: float, factors: NDArray[Any]) -> Integers:
    """What the weights are as whole numbers times their block's float16, `unit`, and factors of shape (rows, blocks, count)."""
    import gguf

    rows = gguf.dequantize(np.ascontiguousarray(table).reshape(len(table), -1), gguf.GGMLQuantizationType[name])
    numbers = rows.reshape(*factors.shape, -1).astype(np.float64)
    scales = (WIDER[name].scales(table).astype(np.float64) * unit * factors)[..., None]
    whole = np.divide(numbers, scales, out=np.zeros_like(numbers), where=scales != 0)
    return whole.astype(np.int64).reshape(*table.shape[:2], -1)


def _grid(name: str, holder: str, exponent: int, steps: Part, scales: Part | None = None) -> Wider:
    """A type whose subscales are 1, 3, 5, ..., for 16 or 32 weights, and whose codes are looked up in a grid."""
    fmt = BY_NAME[holder]
    stored = np.zeros(256, dtype=np.int64)
    for code, value in reversed(list(enumerate(fmt.codebook))):
        stored[value] = code

    def blocks(table: Bytes) -> Bytes:
        subscales = 2 * steps(table).astype(np.int64) + 1
        subscales = np.repeat(subscales, _HALVES // subscales.shape[-1], axis=-1)
        values = _whole(name, table, 2.0**exponent, subscales)
        codes = stored[values] if fmt.codebook else values + fmt.code_offset
        return _held(fmt, WIDER[name].scales(table), subscales, codes)

    return Wider(fmt, exponent, scales or _FIRST, blocks)


def _nibbles(part: slice) -> Part:
    def steps(table: Bytes) -> Bytes:
        octets = table[..., part]
        return np.stack((octets & 15, octets >> 4), axis=-1).reshape(*octets.shape[:2], -1)

    return steps


def _fields(part: slice, kind: str, shifts: tuple[int, ...], mask: int) -> Part:
    """So many fields of each word of a part."""

    def steps(table: Bytes) -> NDArray[np.generic]:
        words = _view(part, kind)(table).astype(np.int64)
        return (words[..., None] >> np.array(shifts) & mask).reshape(*words.shape[:2], -1)

    return steps


def _scale_of_iq1_m(table: Bytes) -> NDArray[np.generic]:
    """A float16 in the upper four bits of four words."""
    words = _view(slice(48, 56), "<u2")(table).astype(np.uint16) >> np.uint16(12)
    bits = (words << np.array([0, 4, 8, 12], dtype=np.uint16)).sum(axis=-1, dtype=np.uint16)
    return bits.view(np.float16)[..., None]


def _two_bits(stored: Bytes) -> Bytes:
    """Codes of 64 bytes: bits 2i and 2i + 1 of 32 bytes belong to block i of half a superblock."""
    halves = stored.reshape(*stored.shape[:2], 2, BLOCK)
    return np.stack([halves >> 2 * i & 3 for i in range(4)], axis=-2).reshape(*stored.shape[:2], -1)


def _q2_k(table: Bytes) -> Bytes:
    """Subscales and subminima lie as in the file; the file's minimum is subtracted."""
    scales = _TWO(table) * np.array([1, -1], dtype=np.float16)
    return _held(BY_NAME["Q4_SM16"], scales, table[..., :_HALVES], _two_bits(table[..., 16:80]).astype(np.int64))


def _q3_k(table: Bytes) -> Bytes:
    fmt = BY_NAME["Q4_S16"]
    high, packed = table[..., :32], table[..., 96:108]
    upper = np.stack([high >> i & 1 for i in range(8)], axis=-2).reshape(*table.shape[:2], -1)
    # From -4 to 3.
    codes = (_two_bits(table[..., 32:96]) | upper << 2).astype(np.int64) - 4 + fmt.code_offset
    first, last = packed[..., :8], packed[..., 8:]
    nibbles = np.concatenate((first & 15, first >> 4), axis=-1)
    pairs = np.concatenate([last >> 2 * i & 3 for i in range(4)], axis=-1)
    return _held(fmt, _LAST(table), (nibbles | pairs << 4) - np.uint8(32), codes)


def _ternary(name: str) -> Wider:
    fmt = BY_NAME["Q4_256"]

    def blocks(table: Bytes) -> Bytes:
        codes = _whole(name, table, 1.0, np.ones((*table.shape[:2], 1))) + fmt.code_offset
        return _held(fmt, _LAST(table), table[..., :0], codes)

    return Wider(fmt, 0, _LAST, blocks)


_FIRST, _LAST = _view(slice(2), "<f2"), _view(slice(-2, None), "<f2")
#: Of scale and minimum.
_TWO = _view(slice(80, 84), "<f2")
#: By the names of their types.
WIDER: dict[str, Wider] = {
    "Q2_K": Wider(BY_NAME["Q4_SM16"], 0, _TWO, _q2_k),
    "Q3_K": Wider(BY_NAME["Q4_S16"], 0, _LAST, _q3_k),
    "TQ1_0": _ternary("TQ1_0"),
    "TQ2_0": _ternary("TQ2_0"),
    "IQ1_S": _grid("IQ1_S", "IQ2_S16", -3, _fields(slice(34, 50), "<u2", (12,), 7)),
    "IQ1_M": _grid("IQ1_M", "IQ2_S16", -3, _fields(slice(48, 56), "<u2", (0, 3, 6, 9), 7), _scale_of_iq1_m),
    "IQ2_XXS": _grid("IQ2_XXS", "IQ2_S16", -3, _fields(slice(2, 66), "<u8", (60,), 15)),
    "IQ2_XS": _grid("IQ2_XS", "IQ2_S16", -3, _nibbles(slice(66, 74))),
    "IQ2_S": _grid("IQ2_S", "IQ2_S16", -3, _nibbles(slice(74, 82))),
    # All values of its grid are even.
    "IQ3_XXS": _grid("IQ3_XXS", "Q6_K", -1, _fields(slice(66, 98), "<u4", (28,), 15)),
    "IQ3_S": _grid("IQ3_S", "Q5_S16", 0, _nibbles(slice(106, 110))),
}
