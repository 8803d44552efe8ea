"""Float32 arithmetic of the vector unit, and the functions that it computes from tables.

Numbers are IEEE 754 float32, rounded to nearest, ties to even, with these simplifications, which hold for every operation:

- subnormal operands count as zero, results whose exact value is below 2**-126 in magnitude become zero, and every zero is +0;
- an exponent field of 255 is infinity, whatever the fraction; there are no NaNs. An infinite operand makes a product infinite,
  with the product's sign, and a sum infinite with its own sign (the first operand's, if both are infinite). Results above the
  largest float32 are infinite.

Every function here takes and returns float32 arrays, elementwise, with the bits that the device computes.

`exp`, `sigmoid`, `reciprocal` and `reciprocal_square_root` bring their operand to a fixed-point number ``position``, whose
upper bits choose a segment of `TABLE` and whose lower `SEGMENT_BITS` bits ``d`` lie in the segment, and compute in integers::

    c0 + ((c1 * d) >> 17) + ((c2 * ((d * d) >> 17)) >> 17)            in units of 2**-30

(shifts round towards minus infinity). The error is below two units of the last place of a float32 significand.
"""

from decimal import Decimal, localcontext
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

#: Bits of a position within a segment.
SEGMENT_BITS = 17
#: Fraction bits of the polynomial's value.
VALUE_BITS = 30
#: log2(e) with 30 fraction bits.
LOG2_E = 1_549_082_005
#: From this magnitude on, `sigmoid` is 1 or 0.
SIGMOID_LIMIT = 16


class Function(IntEnum):
    """Value of a command's ``function`` field."""

    IDENTITY = 0
    EXP = 1
    SIGMOID = 2
    RECIPROCAL = 3
    RECIPROCAL_SQUARE_ROOT = 4
    HALF = 5


#: First row of each function in `TABLE`, and its rows.
SEGMENTS: dict[Function, tuple[int, int]] = {
    Function.SIGMOID: (0, 512),
    Function.RECIPROCAL_SQUARE_ROOT: (512, 256),
    Function.EXP: (768, 128),
    Function.RECIPROCAL: (896, 128),
}


def _rows(function: Function) -> list[tuple[int, int, int]]:
    """Coefficients of the parabola through the two ends and the middle of each segment, computed exactly and then rounded."""
    one = Decimal(1)

    def value(x: Decimal) -> Decimal:
        if function is Function.EXP:
            return (x * Decimal(2).ln()).exp()
        if function is Function.SIGMOID:
            return one / (one + (-x).exp())
        return one / x if function is Function.RECIPROCAL else one / x.sqrt()

    def ends(n: int) -> tuple[Decimal, Decimal]:
        if function is Function.SIGMOID:
            return Decimal(n) / 32, Decimal(n + 1) / 32
        if function is Function.EXP:
            return Decimal(n) / 128, Decimal(n + 1) / 128
        # Reciprocals of 1 to 2; of square roots, a second half for 2 to 4.
        octave = 1 << n // 128
        return octave * (one + Decimal(n % 128) / 128), octave * (one + Decimal(n % 128 + 1) / 128)

    rows = []
    scale = Decimal(1 << VALUE_BITS)
    for n in range(SEGMENTS[function][1]):
        low, high = ends(n)
        f0, f1, f2 = (value(x) * scale for x in (low, (low + high) / 2, high))
        c2 = 2 * (f0 - 2 * f1 + f2)
        rows.append((int(f0.to_integral_value()), int((f2 - f0 - c2).to_integral_value()), int(c2.to_integral_value())))
    return rows


def _table() -> Integers:
    table = np.zeros((1024, 3), dtype=np.int64)
    with localcontext() as context:
        context.prec = 40
        for function, (first, count) in SEGMENTS.items():
            table[first : first + count] = _rows(function)
    return table


#: Coefficients ``c0``, ``c1`` and ``c2`` of each segment, shape (1024, 3).
TABLE: Integers = _table()


def _fields(x: Floats) -> tuple[Integers, Integers, Integers]:
    """Sign, exponent field and significand (0 for zero and subnormals) of each number."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32).astype(np.int64)
    exponent = bits >> 23 & 0xFF
    return bits >> 31, exponent, np.where(exponent == 0, 0, bits & 0x7F_FFFF | 0x80_0000)


def _infinite(x: Floats) -> NDArray[np.bool_]:
    return (np.ascontiguousarray(x, dtype=np.float32).view(np.uint32) >> 23 & 0xFF) == 0xFF


def _with_sign(magnitude: float, like: NDArray[np.generic]) -> Floats:
    return np.where(like, np.float32(-magnitude), np.float32(magnitude)).astype(np.float32)


def flush(x: Floats) -> Floats:
    """Replace subnormals and negative zeros by +0, and NaNs by infinities."""
    x = np.asarray(x, dtype=np.float32)
    x = np.where(np.abs(x) < np.float32(2.0**-126), np.float32(0), x)
    infinite = _infinite(x)
    return np.where(infinite, _with_sign(np.inf, np.signbit(x)), x) if infinite.any() else x


def multiply(a: Floats, b: Floats) -> Floats:
    """Product, rounded once."""
    a, b = np.broadcast_arrays(flush(a), flush(b))
    infinite = _infinite(a) | _infinite(b)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = a.astype(np.float64) * b.astype(np.float64)
        result = np.where(np.abs(exact) < 2.0**-126, np.float32(0), exact.astype(np.float32))
    return np.where(infinite, _with_sign(np.inf, np.signbit(a) ^ np.signbit(b)), result).astype(np.float32)


def add(a: Floats, b: Floats) -> Floats:
    """Sum, rounded once."""
    a, b = np.broadcast_arrays(flush(a), flush(b))
    with np.errstate(over="ignore", invalid="ignore"):
        result = flush(a + b)
    return np.where(_infinite(a), a, np.where(_infinite(b), b, result)).astype(np.float32)


def lesser(a: Floats, b: Floats) -> Floats:
    """The lesser one, exactly: minus infinity is below every other number, plus infinity above."""
    result: Floats = np.minimum(flush(a), flush(b))
    return result


def _polynomial(function: Function, position: Integers) -> Integers:
    first, count = SEGMENTS[function]
    c0, c1, c2 = np.moveaxis(TABLE[first + (position >> SEGMENT_BITS & count - 1)], -1, 0)
    d = position & (1 << SEGMENT_BITS) - 1
    return c0 + (c1 * d >> SEGMENT_BITS) + (c2 * (d * d >> SEGMENT_BITS) >> SEGMENT_BITS)


def _pack(value: Integers, exponent: Integers) -> Floats:
    """``value * 2**(exponent - 30)`` for values of 0 to 2**31 - 1, rounded to nearest, ties to even."""
    exact = np.ldexp(value.astype(np.float64), (exponent - VALUE_BITS).astype(np.int32))
    with np.errstate(over="ignore"):
        return np.where(exact < 2.0**-126, np.float32(0), exact.astype(np.float32)).astype(np.float32)


def exp(x: Floats) -> Floats:
    """Exponential function. With ``n`` the whole part of ``x * log2(e)``: 0 for n below -126, infinite for n above 127."""
    sign, exponent, significand = _fields(x)
    # |x| in units of 2**-24, bits below dropped; from 256 on the result is known anyway.
    left = np.clip(exponent - 126, -31, 8)
    magnitude = np.where(left >= 0, significand << np.maximum(left, 0), significand >> np.maximum(-left, 0))
    scaled = np.where(sign == 1, -magnitude, magnitude) * LOG2_E >> VALUE_BITS
    n = scaled >> 24
    result = _pack(_polynomial(Function.EXP, scaled & (1 << 24) - 1), np.clip(n, -126, 127))
    result = np.where(n < -126, np.float32(0), result)
    return np.where(n > 127, np.float32(np.inf), result).astype(np.float32)


def sigmoid(x: Floats) -> Floats:
    """``1 / (1 + exp(-x))``, with an absolute error below 2**-23; 1 from 16 on, 0 up to -16."""
    sign, exponent, significand = _fields(x)
    # |x| in units of 2**-22, bits below dropped.
    left = np.clip(exponent - 128, -31, 3)
    magnitude = np.where(left >= 0, significand << np.maximum(left, 0), significand >> np.maximum(-left, 0))
    value = _polynomial(Function.SIGMOID, magnitude)
    value = np.where(magnitude >> 22 >= SIGMOID_LIMIT, 1 << VALUE_BITS, value)
    return _pack(np.where(sign == 1, (1 << VALUE_BITS) - value, value), np.zeros_like(value))


def reciprocal(x: Floats) -> Floats:
    """``1 / x``; 0 for 0 (so that a block of zeros is scaled to zeros), 0 for infinity."""
    sign, exponent, significand = _fields(x)
    value = _polynomial(Function.RECIPROCAL, (significand & 0x7F_FFFF) << 1)
    result = _pack(value, 127 - exponent)
    result = np.where((exponent == 0) | (exponent == 255), np.float32(0), result)
    return flush(np.where(sign == 1, -result, result).astype(np.float32))


def reciprocal_square_root(x: Floats) -> Floats:
    """``1 / sqrt(x)`` of the magnitude of x; 0 for 0 and for infinity."""
    _, exponent, significand = _fields(x)
    odd = (exponent - 127) & 1
    value = _polynomial(Function.RECIPROCAL_SQUARE_ROOT, odd << 24 | (significand & 0x7F_FFFF) << 1)
    result = _pack(value, -((exponent - 127) >> 1))
    return np.where((exponent == 0) | (exponent == 255), np.float32(0), result).astype(np.float32)


def half(x: Floats) -> Floats:
    """The nearest float16, ties to even, subnormals included, at most 65504 in magnitude; as a float32."""
    x = np.clip(flush(x), np.float32(-65504), np.float32(65504))
    return (x.astype(np.float16).astype(np.float32) + np.float32(0)).astype(np.float32)


def apply(function: Function, x: Floats) -> Floats:
    """Apply a function of the vector unit."""
    table = {
        Function.IDENTITY: flush,
        Function.EXP: exp,
        Function.SIGMOID: sigmoid,
        Function.RECIPROCAL: reciprocal,
        Function.RECIPROCAL_SQUARE_ROOT: reciprocal_square_root,
        Function.HALF: half,
    }
    return table[function](x)


def total(x: Floats) -> np.float32:
    """Sum of a vector in the order that the device keeps, whatever its width.

    Element ``i`` is added to partial sum ``i % 32``, in order; then the second half of the partial sums is added to the
    first, until one is left: 16 sums, 8, 4, 2, 1.
    """
    padded = np.zeros(-(-len(x) // 32) * 32, dtype=np.float32)
    padded[: len(x)] = x
    sums = np.zeros(32, dtype=np.float32)
    for row in padded.reshape(-1, 32):
        sums = add(sums, row)
    while len(sums) > 1:
        sums = add(sums[: len(sums) // 2], sums[len(sums) // 2 :])
    return np.float32(sums[0])
