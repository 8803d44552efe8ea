"""Exact dot products: the datapath's integer sums, in arrays of floats that hold every integer they meet.

Every intermediate number is an integer times a known power of two and small enough to be exact, so the order in which
BLAS adds does not matter:

- a piece's sum of codes times mantissas needs 24 bits and is made in float32; larger codes, of which 32 share a scale, meet the
  two halves of the mantissas separately;
- its product with a scale, subscale included, needs at most 44 significant bits, in float64;
- the sum over blocks is made in one float64 where its bits fit, else in two or three, of `LIMB_BITS` bits each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import SCALE_EXPONENT

from .rounding import LIMB_BITS, round_limbs
from .stream import Matrix

#: Rows times pieces that are worked on at once: few enough to stay in the cache, enough to outweigh a call. And few enough for
#: OpenBLAS (up to 2**18 products in a call) not to start threads, which wait for each other for ever on a busy machine.
TILE = 1024
#: Bits of a float32's significand and of a float64's.
_SINGLE, _DOUBLE = 24, 53
#: Largest magnitude of a mantissa, as memory may hold it.
_MANTISSA_LIMIT = 1 << 15


@dataclass(frozen=True)
class Vector:
    """A block-floating-point vector: ``mantissas * 2**(base + exponents)``.

    Attributes
    ----------
    base : int
    exponents : ndarray of integers, shape (blocks,)
        0 to 31.
    mantissas : ndarray of int16, shape (blocks, 32)
    """

    base: int
    exponents: NDArray[np.integer]
    mantissas: NDArray[np.int16]


def multiply(matrix: Matrix, vectors: Sequence[Vector]) -> NDArray[np.uint32]:
    """Multiply a matrix with vectors, rounding each result once.

    Parameters
    ----------
    matrix : Matrix
        `rows` by `blocks`.
    vectors : sequence of Vector
        Each of `blocks` blocks.

    Returns
    -------
    ndarray of uint32, shape (rows, len(vectors))
        Bits of the float32 results.
    """
    pieces, rows, width = matrix.codes.shape
    slots = len(vectors)
    units = np.array([_lowest_exponent(v) + matrix.lowest for v in vectors], dtype=np.int32)
    # (blocks, slots, 32), then (pieces, slots, width), in units of the smallest term's last bit: every product is an integer.
    mantissas = np.stack([v.mantissas for v in vectors], axis=1).astype(np.int32)
    shifts = np.stack([v.exponents.astype(np.int32) - u for v, u in zip(vectors, units, strict=True)], axis=1)[:, :, None]
    mantissas, shifts = (np.repeat(x, matrix.planes, axis=0) for x in (mantissas, shifts))
    if width < BLOCK:
        mantissas = mantissas.reshape(-1, slots, 2, width).swapaxes(1, 2).reshape(pieces, slots, width)
        shifts = np.repeat(shifts, 2, axis=0)
    sums = np.ldexp(mantissas.sum(axis=2, dtype=np.float64), shifts[:, :, 0])
    magnitudes = np.ldexp(np.abs(mantissas).sum(axis=2, dtype=np.float64), shifts[:, :, 0])
    limit = matrix.code_limit * matrix.largest_scales @ magnitudes + matrix.largest_minima @ np.abs(sums)
    count = _limbs(float(limit.max()))

    split = matrix.code_limit * _MANTISSA_LIMIT * width > 1 << _SINGLE
    parts = (mantissas >> 8 << 8, mantissas & 255) if split else (mantissas,)
    columns = np.ldexp(np.concatenate(parts, axis=1).astype(np.float32), np.tile(shifts, (1, len(parts), 1)))

    result = np.empty((rows, slots), dtype=np.uint32)
    height = min(rows, TILE)
    depth = max(1, TILE // height)
    buffer = np.empty((depth, height, width), dtype=np.float32)
    for row in range(0, rows, height):
        here = slice(row, min(row + height, rows))
        limbs = np.zeros((count, slots, here.stop - row))
        for piece in range(0, pieces, depth):
            there = slice(piece, min(piece + depth, pieces))
            codes = buffer[: there.stop - piece, : here.stop - row]
            np.copyto(codes, matrix.codes[there, here])
            exact = (columns[there] @ codes.swapaxes(1, 2)).astype(np.float64)
            if split:
                exact = exact[:, :slots] + exact[:, slots:]
            _accumulate(limbs, exact * matrix.scales[there, None, here])
            if matrix.minima is not None:
                _accumulate(limbs, sums[there, :, None] * matrix.minima[there, None, here])
        exponents = np.array([v.base for v in vectors], dtype=np.int32) + units + SCALE_EXPONENT
        result[here] = round_limbs(limbs, exponents[:, None]).T
    return result


def _lowest_exponent(vector: Vector) -> int:
    """Smallest exponent of a block that is not zero."""
    exponents = vector.exponents[vector.mantissas.any(axis=1)]
    return int(exponents.min(initial=31))


def _limbs(limit: float) -> int:
    """Limbs that hold sums of up to `limit`, and their partial sums, exactly."""
    margin = 0.99  # For the rounding of the limit itself.
    for count in (1, 2):
        if limit < margin * 2.0 ** (_DOUBLE - 1 + (count - 1) * LIMB_BITS):
            return count
    return 3


def _accumulate(limbs: NDArray[np.float64], products: NDArray[np.float64]) -> None:
    """Add products, shape (pieces, slots, rows), to limbs, shape (limbs, slots, rows)."""
    for limb in limbs[:-1]:
        upper = np.floor(products * 2.0**-LIMB_BITS)
        limb += (products - upper * 2.0**LIMB_BITS).sum(axis=0)
        products = upper
    limbs[-1] += products.sum(axis=0)
