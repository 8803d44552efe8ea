"""What `tailrace.spec.numerics` and `tailrace.spec.formats` say, in Python's integers, with nothing vectorised."""

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import ScaleKind
from tailrace.spec.numerics import SCALE_EXPONENT, round_to_float32
from verification.unit.golden.packing import Weights


def significand(float16: int) -> int:
    """``significand << position`` of a float16, in units of 2**-24."""
    exponent, fraction = float16 >> 10 & 31, float16 & 1023
    magnitude = (fraction + 1024 * (exponent > 0)) << (max(exponent, 1) - 1)
    return -magnitude if float16 & 0x8000 else magnitude


def _float16(data: bytes, at: int) -> int:
    return significand(int.from_bytes(data[at : at + 2], "little"))


def scales_and_minima(weights: Weights, row: int, block: int) -> tuple[list[int], list[int]]:
    """Scale of each of the block's 32 elements, and the minimum of each, in units of 2**-24."""
    match weights.format.scale_kind:
        case ScaleKind.UNIT:
            return [1 << 24] * 32, [0] * 32
        case ScaleKind.EXPONENT:
            return [1 << int(weights.scales[row, block, 0])] * 32, [0] * 32
        case ScaleKind.FLOAT8:
            # A number of FP8 has the fields of a float16, with 7 bits of fraction less and one of exponent.
            first, second = (significand(int(octet) << 7) for octet in weights.scales[row, block])
            return [first] * 16 + [second] * 16, [0] * 32
        case ScaleKind.FLOAT16:
            data = weights.scales[row, block].tobytes()
            return [_float16(data, 0)] * 32, [_float16(data, 2) if weights.format.has_minimum else 0] * 32
        case ScaleKind.SIGNED_SUPERBLOCK:
            data, j = weights.scales[row, block // 8].tobytes(), block % 8
            upper, lower = int.from_bytes(data[2:4], "little"), int.from_bytes(data[4:], "little")
            return [_float16(data, 0) * ((lower >> 4 * j & 15) + (upper >> 2 * j & 3) * 16 - 32)] * 32, [0] * 32
        case ScaleKind.FLOAT16_SUPERBLOCK:
            data = weights.scales[row, block // 8].tobytes()
            low, high = (int(s) for s in weights.subscales[row, block]) if weights.format.subscale_blocks else (1, 1)
            if weights.format.has_minimum:
                minima = [_float16(data, 2) * (low >> 4 & 15)] * 16 + [_float16(data, 2) * (high >> 4 & 15)] * 16
                return [_float16(data, 0) * (low & 15)] * 16 + [_float16(data, 0) * (high & 15)] * 16, minima
            return [_float16(data, 0) * low] * 16 + [_float16(data, 0) * high] * 16, [0] * 32
    data = weights.scales[row, block // 8].tobytes()
    q, j = data[4:], block % 8
    if j < 4:
        subscale, subminimum = q[j] & 63, q[j + 4] & 63
    else:
        subscale, subminimum = q[j + 4] & 15 | q[j - 4] >> 6 << 4, q[j + 4] >> 4 | q[j] >> 6 << 4
    return [_float16(data, 0) * subscale] * 32, [-_float16(data, 2) * subminimum] * 32


def block_codes(weights: Weights, row: int, block: int) -> list[int]:
    """What the scales are multiplied with, for each of 32 elements of the vector."""
    stored = [int(code) for code in weights.codes[row, block]]
    if weights.format.scale_kind is ScaleKind.UNIT:
        return [code & 15 for code in stored] + [(code >> 4) * 16 for code in stored]
    return [weights.format.codebook[code] if weights.format.codebook else code - weights.format.code_offset for code in stored]


def integer_weights(weights: Weights) -> list[list[list[int]]]:
    """Weights in units of 2**-24, for each row and block of the vector 32 integers."""
    result = []
    for row in range(weights.rows):
        blocks = []
        for block in range(weights.blocks):
            planes = []
            for plane in range(block * weights.format.planes, (block + 1) * weights.format.planes):
                scales, minima = scales_and_minima(weights, row, plane)
                codes = block_codes(weights, row, plane)
                planes.append([code * scale + least for code, scale, least in zip(codes, scales, minima, strict=True)])
            blocks.append([sum(values) for values in zip(*planes, strict=True)])
        result.append(blocks)
    return result


def dot(weights: Weights, base: int, exponents: NDArray[np.integer], mantissas: NDArray[np.int16]) -> list[int]:
    """Bits of the float32 result of each row."""
    results = []
    for row in integer_weights(weights):
        total = sum(
            sum(w * m for w, m in zip(block, x, strict=True)) << int(exponent)
            for block, x, exponent in zip(row, mantissas.tolist(), exponents, strict=True)
        )
        results.append(round_to_float32(total, base + SCALE_EXPONENT))
    return results
