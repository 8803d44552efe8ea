"""What `tailrace.spec.numerics` says, in Python's integers, with nothing vectorised."""

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.numerics import SCALE_EXPONENT, round_to_float32
from verification.unit.golden.packing import Weights


def significand(float16: int) -> int:
    """``significand << position`` of a float16, in units of 2**-24."""
    exponent, fraction = float16 >> 10 & 31, float16 & 1023
    magnitude = (fraction + 1024 * (exponent > 0)) << (max(exponent, 1) - 1)
    return -magnitude if float16 & 0x8000 else magnitude


def dot(weights: Weights, base: int, exponents: NDArray[np.uint8], mantissas: NDArray[np.int16]) -> list[int]:
    """Bits of the float32 result of each row."""
    results = []
    for codes, scales, minima in zip(weights.codes.tolist(), weights.scales.tolist(), weights.minima.tolist(), strict=True):
        total = 0
        for b, (block, x) in enumerate(zip(codes, mantissas.tolist(), strict=True)):
            inner = sum((code - weights.format.code_offset) * m for code, m in zip(block, x, strict=True))
            total += inner * significand(scales[b]) << int(exponents[b])
            if weights.format.has_minimum:
                total += sum(x) * significand(minima[b]) << int(exponents[b])
        results.append(round_to_float32(total, base + SCALE_EXPONENT))
    return results
