"""Matrices of plain numbers as sums of three Q8_0 matrices, format `Q8_0X3`.

Quantising a router to 8 bits would send tokens to other experts, and who kept a matrix in 16 bits had a reason. Three planes
of 8 bits hold a number to within 2**-21 of the largest of its block, which is far below what the activations are rounded to.
(Two would hold the 8 bits of a bfloat16 where a block's exponents lie within 8 powers of two, which hardly any block keeps.)
"""

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BLOCK, Q8_0X3

#: Power of two that the products are multiplied with, so that scales have room on both sides in a float16: one for all
#: matrices, so that programs can loop over layers.
EXPONENT = -16
#: Bits from one plane to the next.
_STEP = 7
#: Exponents of powers of two that a float16 holds.
_SCALE_MIN, _SCALE_MAX = -24, 15
#: Numbers are below this in magnitude.
LIMIT = 2.0 ** (_SCALE_MAX + _STEP + EXPONENT)


def planes_of(numbers: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Take numbers apart.

    Parameters
    ----------
    numbers : ndarray of float32, shape (rows, columns)
        `columns` is a multiple of 32.

    Returns
    -------
    ndarray of uint8, shape (rows, bytes of a row)
        For each 32 elements three Q8_0 blocks, as GGUF files have them; the sum of what they stand for, times ``2**EXPONENT``,
        is the matrix.

    Raises
    ------
    ModelError
        If a number is not below `LIMIT` in magnitude.
    """
    rest = numbers.astype(np.float64).reshape(len(numbers), -1, BLOCK) * 2.0**-EXPONENT
    largest = np.abs(rest).max(axis=-1)
    if largest.max(initial=0) >= LIMIT * 2.0**-EXPONENT:
        raise ModelError(
            f"a number of magnitude {largest.max() * 2.0**EXPONENT:g} in it does not fit planes of 8 bits, which hold numbers"
            f" below {LIMIT:g}: ask for a format with --quantise Q8_0; if it is a router of experts, get a file that has it"
            " quantised"
        )
    _, exponents = np.frexp(largest)
    blocks = np.empty((*rest.shape[:2], Q8_0X3.planes, Q8_0X3.plane.file_bytes), dtype=np.uint8)
    for plane in range(Q8_0X3.planes):
        # The largest is below 2**exponent; codes reach 127.
        scales = np.clip(exponents - _STEP - plane * _STEP, _SCALE_MIN, _SCALE_MAX)
        codes = np.clip(np.rint(np.ldexp(rest, -scales[..., None])), -127, 127)
        rest = rest - np.ldexp(codes, scales[..., None])
        blocks[..., plane, :2] = np.ldexp(1.0, scales).astype("<f2").view(np.uint8).reshape(*scales.shape, 2)
        blocks[..., plane, 2:] = codes.astype(np.int8).view(np.uint8)
    return blocks.reshape(len(numbers), -1)
