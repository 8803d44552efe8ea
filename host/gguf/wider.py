"""Weights of formats that the device does not read, in one that it reads, with exactly the same values and more bits.

Each weight of these formats is a whole number times a float16 of its block, or the difference of two such products.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BLOCK, BY_NAME, Q8_0X2, Format

from .blocks import Planes, join_planes
from .types import TENSOR_TYPE_NUMBERS, TENSOR_TYPES

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

#: Elements and half blocks of a superblock.
_SUPERBLOCK, _HALVES = 256, 16
#: What the upper one of two planes is multiplied with, and the float16 that grow too large by it.
_STEP, _SCALE_LIMIT = 128, 512.0


@dataclass(frozen=True)
class Wider:
    """How the device has a format that it does not read.

    Attributes
    ----------
    format : Format
    exponent : int
        Power of two that products are multiplied with.
    scales : slice
        Bytes of a block of the file that hold its float16 numbers.
    blocks : callable
        Blocks of `format` from those of the file, of shape (rows, blocks, bytes).
    """

    format: Format
    exponent: int
    scales: slice
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

    Raises
    ------
    ModelError
        If a scale is too large.
    """
    size = TENSOR_TYPES[TENSOR_TYPE_NUMBERS[name]].bytes
    return WIDER[name].blocks(rows.reshape(len(rows), -1, size)).reshape(len(rows), -1)


def _float16(octets: Bytes) -> NDArray[np.float16]:
    return np.ascontiguousarray(octets).view("<f2")


def _numbers(name: str, table: Bytes) -> NDArray[np.float64]:
    """What the `gguf` package makes of blocks, shape (rows, blocks, elements)."""
    import gguf

    rows = gguf.dequantize(table.reshape(len(table), -1), gguf.GGMLQuantizationType[name])
    return rows.reshape(*table.shape[:2], -1).astype(np.float64)


def _codes(name: str, table: Bytes, unit: float) -> Integers:
    """Weights as whole numbers times their block's float16 times `unit`."""
    scales = _float16(table[..., WIDER[name].scales]).astype(np.float64)
    numbers = _numbers(name, table)
    return np.divide(numbers, scales * unit, out=np.zeros_like(numbers), where=scales != 0).astype(np.int64)


def _planes(scales: tuple[NDArray[np.float16], NDArray[np.float16]], codes: tuple[Integers, Integers]) -> Bytes:
    """Two planes; scales of shape (rows, blocks, 1), codes of shape (rows, blocks, elements)."""
    rows, count, elements = codes[0].shape
    blocks = np.empty((rows, count, elements // BLOCK, Q8_0X2.planes, Q8_0X2.plane.file_bytes), dtype=np.uint8)
    for plane in range(Q8_0X2.planes):
        blocks[..., plane, :2] = _octets(scales[plane])[:, :, None]
        blocks[..., plane, 2:] = codes[plane].astype(np.int8).view(np.uint8).reshape(rows, count, -1, BLOCK)
    return blocks


def _octets(scales: NDArray[np.float16]) -> Bytes:
    return np.ascontiguousarray(scales.astype("<f2")).view(np.uint8)


def _in_two_planes(name: str, unit: float) -> Callable[[Bytes], Bytes]:
    def blocks(table: Bytes) -> Bytes:
        scales = _float16(table[..., WIDER[name].scales])
        if np.abs(scales).max(initial=0) >= _SCALE_LIMIT:
            raise ModelError(f"a scale of {name} blocks is {_SCALE_LIMIT:g} or more: get the model in another format")
        codes = _codes(name, table, unit)
        upper = (codes + _STEP // 2) // _STEP
        return _planes((scales * np.float16(_STEP), scales), (upper, codes - _STEP * upper))

    return blocks


def _q2_k(table: Bytes) -> Bytes:
    """One plane for what is multiplied with the scale, one for what is multiplied with the minimum."""
    packed, stored = table[..., :16], table[..., 16:80]
    # Bits 2i and 2i + 1 of 32 bytes belong to block i of half a superblock.
    codes = np.stack([stored.reshape(*table.shape[:2], 2, BLOCK) >> 2 * i & 3 for i in range(4)], axis=-2)
    shape = *table.shape[:2], _SUPERBLOCK
    products = codes.reshape(*table.shape[:2], _HALVES, -1) * (packed & 15)[..., None].astype(np.int64)
    minima = np.broadcast_to((packed >> 4)[..., None].astype(np.int64), products.shape)
    scale, minimum = _float16(table[..., 80:82]), _float16(table[..., 82:84])
    return _planes((scale, -minimum), (products.reshape(shape), minima.reshape(shape)))


def _q3_k(table: Bytes) -> Bytes:
    """As Q6_K, which has subscales for as many weights, and more bits in each."""
    high, low, packed = table[..., :32], table[..., 32:96], table[..., 96:108]
    shape = table.shape[:2]
    upper = np.stack([high >> i & 1 for i in range(8)], axis=-2)
    lower = np.stack([low.reshape(*shape, 2, BLOCK) >> 2 * i & 3 for i in range(4)], axis=-2).reshape(*shape, 8, BLOCK)
    # From -4 to 3; with the offset of Q6_K.
    codes = (lower | upper << 2) + np.uint8(32 - 4)
    first, last = packed[..., :8], packed[..., 8:]
    nibbles = np.concatenate((first & 15, first >> 4), axis=-1)
    pairs = np.concatenate([last >> 2 * i & 3 for i in range(4)], axis=-1)
    subscales = (nibbles | pairs << 4) - np.uint8(32)
    fours = (codes >> 4).reshape(*shape, 8, 8, 4)
    planes = Planes(
        scale=table[..., 108:],
        subscale=subscales,
        high=(fours << np.array([0, 2, 4, 6], dtype=np.uint8)).sum(axis=-1, dtype=np.uint8).reshape(len(table), -1, 8),
        nibbles=((codes[..., :16] & 15 | codes[..., 16:] << 4).reshape(len(table), -1, 16),),
    )
    return join_planes(BY_NAME["Q6_K"], planes)


def _ternary(name: str) -> Callable[[Bytes], Bytes]:
    def blocks(table: Bytes) -> Bytes:
        codes = (_codes(name, table, 1.0) + 8).astype(np.uint8).reshape(*table.shape[:2], -1, BLOCK)
        found = np.empty((*codes.shape[:3], BY_NAME["Q4_0"].file_bytes), dtype=np.uint8)
        found[..., :2] = table[..., None, WIDER[name].scales]
        found[..., 2:] = codes[..., :16] | codes[..., 16:] << 4
        return found

    return blocks


_FIRST, _LAST = slice(2), slice(-2, None)
#: By the names of their types.
WIDER: dict[str, Wider] = {
    "Q2_K": Wider(Q8_0X2, 0, slice(-4, None), _q2_k),
    "Q3_K": Wider(BY_NAME["Q6_K"], 0, _LAST, _q3_k),
    "TQ1_0": Wider(BY_NAME["Q4_0"], 0, _LAST, _ternary("TQ1_0")),
    "TQ2_0": Wider(BY_NAME["Q4_0"], 0, _LAST, _ternary("TQ2_0")),
    "IQ1_S": Wider(Q8_0X2, -3, _FIRST, _in_two_planes("IQ1_S", 2.0**-3)),
    "IQ2_XXS": Wider(Q8_0X2, -3, _FIRST, _in_two_planes("IQ2_XXS", 2.0**-3)),
    "IQ2_XS": Wider(Q8_0X2, -3, _FIRST, _in_two_planes("IQ2_XS", 2.0**-3)),
    "IQ2_S": Wider(Q8_0X2, -3, _FIRST, _in_two_planes("IQ2_S", 2.0**-3)),
    "IQ3_XXS": Wider(Q8_0X2, -2, _FIRST, _in_two_planes("IQ3_XXS", 2.0**-2)),
    "IQ3_S": Wider(Q8_0X2, 0, _FIRST, _in_two_planes("IQ3_S", 1.0)),
}
