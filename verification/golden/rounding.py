"""Rounding of exact sums, given as limbs, to float32: once, to nearest, ties to even.

The definition is `tailrace.spec.numerics.round_to_float32`; this is the same function for whole arrays.
"""

import numpy as np
from numpy.typing import NDArray

#: Bits of a limb. Sums of up to 2**13 limbs stay below 2**53, so that float64 holds them exactly.
LIMB_BITS = 40

_SMALLEST_NORMAL = 2.0**-126
_OVERFLOW = 2.0**128


def round_limbs(limbs: NDArray[np.float64], exponents: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Round ``sum(limbs[k] * 2**(LIMB_BITS * k)) * 2**exponents`` to float32.

    Parameters
    ----------
    limbs : ndarray of float64, shape (n, ...)
        One to three limbs, lowest first; integers of at most 2**53, of either sign.
    exponents : ndarray of int32
        Broadcast against one limb.

    Returns
    -------
    ndarray of uint32, shape (...)
        Bits of the results: +0 below 2**-126, infinity from 2**128 on.
    """
    fraction, exponent = np.frexp(limbs[0] if len(limbs) == 1 else _collapse(limbs))
    # The fraction is at least a half, so this is the one rounding to 24 bits, free of float32's subnormals.
    rounded = fraction.astype(np.float32).astype(np.float64)
    with np.errstate(over="ignore"):
        value = np.ldexp(rounded, exponent + exponents)
    magnitude = np.abs(value)
    value = np.where(magnitude < _SMALLEST_NORMAL, 0.0, np.where(magnitude >= _OVERFLOW, np.copysign(np.inf, value), value))
    bits: NDArray[np.uint32] = value.astype(np.float32).view(np.uint32)
    return bits


def _collapse(limbs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add limbs up to a float64 that rounds to float32 as their exact sum does.

    Rounding to 53 bits first and to 24 bits then would be wrong beside a tie. So what the 53 bits leave out is kept in
    the last bit, by rounding to odd (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    low, middle, high = (limbs[k].copy() if k < len(limbs) else np.zeros_like(limbs[0]) for k in range(3))
    for lower, upper in ((low, middle), (middle, high)):
        carry = np.floor(np.ldexp(lower, -LIMB_BITS))
        lower -= np.ldexp(carry, LIMB_BITS)
        upper += carry
    # From here on `low` and `middle` are below 2**40 and not negative; each two_sum is exact.
    top, rest = _two_sum(np.ldexp(high, 2 * LIMB_BITS), np.ldexp(middle, LIMB_BITS))
    rest, tail = _two_sum(rest, low)
    total, rest = _two_sum(top, rest)
    rest += tail
    even = (total.view(np.uint64) & 1) == 0
    return np.where((rest != 0) & even, np.nextafter(total, np.copysign(np.inf, rest)), total)


def _two_sum(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The float64 sum and its rounding error, exactly (Knuth, TAOCP volume 2, 4.2.2, theorem B)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)
