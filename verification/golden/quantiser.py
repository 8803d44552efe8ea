"""Quantisation of results that stay on the device."""

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import BASE_BIAS, EXPONENT_MAX, MANTISSA_MAX

from .dot import Vector

_FRACTION_BITS = 23


def quantise_bits(bits: NDArray[np.uint32]) -> Vector:
    """Quantise float32 bits to block floating point, as `tailrace.spec.numerics.quantise` does for finite values.

    A result buffer can hold infinities too, after an overflow. Like the hardware, this reads their exponent field as any
    other: an infinity counts as 2**128.

    Parameters
    ----------
    bits : ndarray of uint32, shape (32 * blocks,)

    Returns
    -------
    Vector
    """
    bits = bits.reshape(-1, BLOCK)
    biased = (bits >> _FRACTION_BITS & 0xFF).astype(np.int32)
    significands = np.where(biased == 0, 0, bits & 0x7F_FFFF | 1 << _FRACTION_BITS).astype(np.float64)
    signed = np.where(bits >> 31, -significands, significands)
    base = int(biased.max()) - BASE_BIAS
    exponents = np.maximum(biased.max(axis=1) - (BASE_BIAS - EXPONENT_MAX) - base, 0)
    scaled = np.ldexp(signed, biased - (127 + _FRACTION_BITS) - base - exponents[:, None])
    mantissas = np.clip(np.rint(scaled), -MANTISSA_MAX, MANTISSA_MAX).astype(np.int16)
    return Vector(base, exponents.astype(np.uint8), mantissas)
