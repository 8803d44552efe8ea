"""Quantisation of float32 numbers on the device to block floating point."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import BASE_BIAS, BLOCK_BIAS, MANTISSA_MAX

_FRACTION_BITS = 23


@dataclass(frozen=True)
class Blocks:
    """Blocks as a vector slot holds them: ``mantissas * 2**exponents``.

    Attributes
    ----------
    base : int
        Base exponent of a vector that consists of these blocks.
    exponents : ndarray of int32, shape (blocks,)
        Absolute: the base is not taken off.
    mantissas : ndarray of int16, shape (blocks, 32)
    """

    base: int
    exponents: NDArray[np.int32]
    mantissas: NDArray[np.int16]


def quantise(x: NDArray[np.float32]) -> Blocks:
    """Quantise to block floating point, as `tailrace.spec.numerics.quantise` does for finite values.

    The activation buffer can hold infinities too, after an overflow. Like the hardware, this reads their exponent field as any
    other: an infinity counts as 2**128.

    Parameters
    ----------
    x : ndarray of float32, shape (blocks, 32)

    Returns
    -------
    Blocks
    """
    bits = np.ascontiguousarray(x).view(np.uint32).reshape(-1, BLOCK)
    biased = (bits >> _FRACTION_BITS & 0xFF).astype(np.int32)
    significands = np.where(biased == 0, 0, bits & 0x7F_FFFF | 1 << _FRACTION_BITS).astype(np.float64)
    signed = np.where(bits >> 31, -significands, significands)
    largest = biased.max(axis=1)
    scaled = np.ldexp(signed, biased - (127 + _FRACTION_BITS - BLOCK_BIAS) - largest[:, None])
    mantissas = np.clip(np.rint(scaled), -MANTISSA_MAX, MANTISSA_MAX).astype(np.int16)
    return Blocks(int(largest.max()) - BASE_BIAS, largest - BLOCK_BIAS, mantissas)


def split(x: NDArray[np.float32], duplicate: bool) -> NDArray[np.float32]:
    """Cut vectors into blocks of 32, padded with zeros.

    Parameters
    ----------
    x : ndarray of float32, shape (vectors, count)
    duplicate : bool
        Blocks of 16 elements, each written twice, as format I8 wants them.

    Returns
    -------
    ndarray of float32, shape (vectors, blocks, 32)
    """
    elements = BLOCK // 2 if duplicate else BLOCK
    vectors, count = x.shape
    blocks = -(-count // elements)
    padded = np.zeros((vectors, blocks * elements), dtype=np.float32)
    padded[:, :count] = x
    padded = padded.reshape(vectors, blocks, elements)
    return np.concatenate((padded, padded), axis=2) if duplicate else padded
