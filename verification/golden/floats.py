"""Float32 arithmetic with the bits of `tailrace.spec.floats`, at numpy's own speed.

IEEE 754 and the device differ only where subnormals, negative zeros, infinities or NaNs come up. So numpy computes, a few
integer operations look for those, and only then the definition is asked.

Operands are *canonical*: without subnormals, negative zeros and NaNs. So are all results.
"""

import numpy as np
from numpy.typing import NDArray

from tailrace.spec import floats
from tailrace.spec.floats import Function

Floats = NDArray[np.float32]

_MAGNITUDE = np.uint32(0x7FFF_FFFF)
_INFINITY = np.uint32(0x7F80_0000)
_SMALLEST_NORMAL = np.uint32(0x0080_0000)
_ONE = np.uint32(1)
_ZERO = np.float32(0)
_LANES = 32


def _usual(x: Floats) -> bool:
    """Whether no number is subnormal, the smallest normal one (which a product may have been rounded up to), or a NaN."""
    bits = x.view(np.uint32) & _MAGNITUDE
    if bits.max(initial=0) > _INFINITY:
        return False
    # Zero wraps around to the largest integer.
    bits -= _ONE
    return bool(bits.min(initial=_SMALLEST_NORMAL) >= _SMALLEST_NORMAL)


def canonical(x: Floats) -> Floats:
    """A copy with subnormals and negative zeros replaced by +0, and NaNs by infinities."""
    # Adding +0 turns -0 into +0 and nothing else into anything.
    result: Floats = x + _ZERO
    return result if _usual(result) else np.asarray(floats.flush(np.ascontiguousarray(x)), dtype=np.float32)


def multiply(a: Floats, b: Floats) -> Floats:
    """Product of canonical operands."""
    result: Floats = a * b
    result += _ZERO
    return result if _usual(result) else floats.multiply(a, b)


def add(a: Floats, b: Floats) -> Floats:
    """Sum of canonical operands."""
    result: Floats = a + b
    return result if _usual(result) else floats.add(a, b)


def lesser(a: Floats, b: Floats) -> Floats:
    """The lesser one of canonical operands."""
    result: Floats = np.minimum(a, b)
    return result


def negative(x: Floats) -> Floats:
    """The number with the other sign; zero stays +0."""
    result: Floats = _ZERO - x
    return result


def apply(function: Function, x: Floats) -> Floats:
    """A function of the vector unit, for an array of any shape."""
    if function is Function.IDENTITY:
        return x
    # The definition looks tables up for one dimension.
    return floats.apply(function, x.reshape(-1)).reshape(x.shape)


def total(x: Floats) -> Floats:
    """Sums along the last axis, in the order of `tailrace.spec.floats.total`.

    Parameters
    ----------
    x : ndarray of float32, shape (segments, count)

    Returns
    -------
    ndarray of float32, shape (segments,)
    """
    segments, count = x.shape
    rows = -(-count // _LANES)
    padded = np.zeros((segments, rows * _LANES), dtype=np.float32)
    padded[:, :count] = x
    # Every partial sum, so that none escapes the look.
    partial = np.add.accumulate(padded.reshape(segments, rows, _LANES), axis=1)
    if not _usual(partial):
        return np.array([floats.total(row) for row in x], dtype=np.float32)
    sums = partial[:, -1]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = add(sums[:, :half], sums[:, half:])
    return sums[:, 0]
