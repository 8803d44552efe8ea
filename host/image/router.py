"""Small matrices of plain numbers as sums of Q8_0 matrices, for routers of experts, which files leave in float32.

Quantising a router to 8 bits would send tokens to other experts. Three planes of 8 bits hold a number to within 2**-21 of the
largest of its block, which is far below what the activations are rounded to, and take three quarters of its bytes.
"""

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK, Q8_0

PLANES = 3
#: Power of two that the products are multiplied with, so that scales have room on both sides in a float16: one for all routers,
#: so that programs can loop over layers.
EXPONENT = -16
#: Bits from one plane to the next.
_STEP = 7
#: Exponents of powers of two that a float16 holds.
_SCALE_MIN, _SCALE_MAX = -24, 15


def planes_of(numbers: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """Take numbers apart.

    Parameters
    ----------
    numbers : ndarray of float32, shape (rows, columns)
        Below 64 in magnitude, with `columns` a multiple of 32.

    Returns
    -------
    list of ndarray of uint8, shape (rows, bytes of a row)
        Q8_0 blocks, as GGUF files have them; the sum of what they stand for, times ``2**EXPONENT``, is the matrix.
    """
    rest = numbers.astype(np.float64).reshape(len(numbers), -1, BLOCK) * 2.0**-EXPONENT
    _, exponents = np.frexp(np.abs(rest).max(axis=-1))
    planes = []
    for plane in range(PLANES):
        # The largest is below 2**exponent; codes reach 127.
        scales = np.clip(exponents - _STEP - plane * _STEP, _SCALE_MIN, _SCALE_MAX)
        codes = np.clip(np.rint(np.ldexp(rest, -scales[..., None])), -127, 127)
        rest = rest - np.ldexp(codes, scales[..., None])
        blocks = np.empty((*codes.shape[:2], Q8_0.file_bytes), dtype=np.uint8)
        blocks[..., :2] = np.ldexp(1.0, scales).astype("<f2").view(np.uint8).reshape(*scales.shape, 2)
        blocks[..., 2:] = codes.astype(np.int8).view(np.uint8)
        planes.append(blocks.reshape(len(numbers), -1))
    return planes
