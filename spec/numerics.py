"""Numbers: how activations are quantised, what a dot product is, and how it is rounded.

Activations are block floating point. Element ``j`` of block ``b`` is ``mantissa[b, j] * 2**(base + exponent[b])`` with a
signed 16-bit mantissa, a block exponent from 0 to 31 and one base exponent for the vector.

A weight is ``scale * subscale * (code - offset) + minimum * subminimum`` (`tailrace.spec.formats`) with float16 scale and
minimum. Subscale and subminimum may differ between the halves of a block. A float16 with exponent field ``E`` and fraction
``F`` is ``significand * 2**(position - 24)`` where ``position = max(E, 1) - 1`` (0 to 30) and
``significand = F + 1024 * (E > 0)``, with its sign. (Infinities and NaNs have no meaning here: the importer refuses them, and
the device reads them by the same formula.)

The dot product of a row is then an integer times a power of two::

    sum over blocks of (  sum(subscale * (code - offset) * mantissa) * significand(scale) << (position(scale)   + exponent)
                        + sum(subminimum * mantissa) * significand(minimum)               << (position(minimum) + exponent))
    * 2**(base - 24)

The device adds these integers exactly in an accumulator of `ACCUMULATOR_BITS` bits and rounds once, to the nearest float32,
ties to even. So a result depends on nothing but its operands: not on the order of the sum, the width of the bus, or the number
of right-hand sides. Results below the smallest normal float32 become +0; those above the largest become infinite.
"""

import numpy as np
from numpy.typing import NDArray

from .formats import BLOCK

#: Bits of a mantissa, sign included.
MANTISSA_BITS = 16
MANTISSA_MAX = (1 << (MANTISSA_BITS - 1)) - 1
#: Largest block exponent. A block whose largest element is more than 31 powers of two below the vector's counts as zero.
EXPONENT_MAX = 31
#: Width of the exact accumulator. 2**27 (sum of 32 codes of 8 bits times mantissas) * 2**5 (subscale) * 2**11 (significand) *
#: 2**61 (shift) leaves 2**15 blocks; so do codes of 6 bits with subscales of 8.
ACCUMULATOR_BITS = 120
#: Blocks in a row for which the accumulator can not overflow.
ACCUMULATOR_BLOCKS = 1 << 12
#: Exponent of a float16 significand's last bit at position 0.
SCALE_EXPONENT = -24

#: A block whose largest biased float32 exponent is ``E`` has the exponent ``E - BLOCK_BIAS`` before the base is taken off: its
#: largest mantissa then has its top bit set.
BLOCK_BIAS = 141
#: ``base = largest biased float32 exponent in the vector - BASE_BIAS``: the largest block then has exponent `EXPONENT_MAX`.
BASE_BIAS = BLOCK_BIAS + EXPONENT_MAX


def quantise(x: NDArray[np.float32]) -> tuple[int, NDArray[np.uint8], NDArray[np.int16]]:
    """Quantise a vector to block floating point.

    The exponent of a block follows from its largest element, the base from the largest block. Each mantissa is the nearest
    integer (ties to even) to ``x / 2**(base + exponent)``, limited to +-32767. Subnormal inputs count as zero, and so does a
    block whose exponent would be negative: so a block can be quantised before the vector's largest element is known.

    Parameters
    ----------
    x : ndarray of float32, shape (32 * blocks,)
        Finite values.

    Returns
    -------
    base : int
        Exponent of the vector, -172 to 83.
    exponents : ndarray of uint8, shape (blocks,)
        Exponents of the blocks over the base, 0 to 31.
    mantissas : ndarray of int16, shape (blocks, 32)

    Raises
    ------
    ValueError
        If the length is not a positive multiple of 32, or a value is not finite.
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    if x.ndim != 1 or x.size == 0 or x.size % BLOCK:
        raise ValueError(f"a vector must have a positive multiple of {BLOCK} elements, not shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("a vector must be finite: it holds infinities or NaNs")
    biased = ((x.view(np.uint32) >> 23) & 0xFF).astype(np.int64).reshape(-1, BLOCK)
    values = np.where(biased == 0, 0.0, x.astype(np.float64).reshape(-1, BLOCK))
    largest = biased.max(axis=1)
    base = int(largest.max()) - BASE_BIAS
    # The window of 32 exponents is what keeps the accumulator finite.
    exponents = largest - BLOCK_BIAS - base
    scaled = np.ldexp(values, (BLOCK_BIAS - largest)[:, None].astype(np.int32))
    mantissas = np.where(exponents[:, None] < 0, 0, np.clip(np.rint(scaled), -MANTISSA_MAX, MANTISSA_MAX))
    return base, np.maximum(exponents, 0).astype(np.uint8), mantissas.astype(np.int16)


def dequantise(base: int, exponents: NDArray[np.uint8], mantissas: NDArray[np.int16]) -> NDArray[np.float64]:
    """Value of a block-floating-point vector, exact in float64.

    Returns
    -------
    ndarray of float64, shape (32 * blocks,)
    """
    return np.ldexp(mantissas.astype(np.float64), base + exponents.astype(np.int32)[:, None]).reshape(-1)


def round_to_float32(integer: int, exponent: int) -> int:
    """Round ``integer * 2**exponent`` once, to the nearest float32, ties to even.

    Parameters
    ----------
    integer : int
        Any Python integer.
    exponent : int

    Returns
    -------
    int
        The bits of the float32: +0 for zero and for results below 2**-126, infinity for results of 2**128 and above.
    """
    if integer == 0:
        return 0
    sign = 0x8000_0000 if integer < 0 else 0
    magnitude = abs(integer)
    shift = magnitude.bit_length() - 24
    if shift > 0:
        significand, rest, half = magnitude >> shift, magnitude & ((1 << shift) - 1), 1 << (shift - 1)
        significand += rest > half or (rest == half and significand & 1)
        if significand == 1 << 24:
            significand, shift = significand >> 1, shift + 1
    else:
        significand = magnitude << -shift
    biased = exponent + shift + 23 + 127
    if biased < 1:
        return 0
    if biased > 254:
        return sign | 0x7F80_0000
    return sign | biased << 23 | (significand & 0x7F_FFFF)
