"""The KV cache: 8-bit codes with a scale, written in place, read through the path of the weights.

The keys of one KV head form a matrix of format `Q8_0` with a row for each cached token: ``scores = keys @ query``. The values
of one KV head form a matrix of format `I8`, transposed, with a row for each of the head's elements and a column for each
cached token: ``output = values @ probabilities``. So both are plain matrix-vector products. The scale of a value belongs to
its token; it is multiplied to the token's probability, before that is quantised. The scales of values are float32, in an
array of their own.

Lane ``i`` of ``lanes`` holds rows ``i``, ``i + lanes``, ... as in every stream. `capacity` is the number of tokens for which
there is room, a multiple of 64; token ``t`` of a sliding window lies in row ``t % window``.

Quantisation: the keys of a block of 32 elements, and the values of a token and head, have one scale each. With
``a`` the largest magnitude: for keys ``scale = half(a * (1/127))``, for values ``scale = a * (1/127)``;
``code = round(x * reciprocal(scale))``, ties to even, limited to +-127, in the arithmetic of `tailrace.spec.floats`. A block of
zeros has scale and codes 0.
"""

import numpy as np
from numpy.typing import NDArray

from .floats import half, multiply, reciprocal
from .formats import BLOCK, LANE_BYTES, Q8_0

Floats = NDArray[np.float32]

CODE_MAX = 127
#: 1/127 as a float32.
CODE_STEP: Floats = np.array(1 / 127, dtype=np.float32)
#: Capacities are multiples of this many tokens.
CAPACITY_UNIT = 64


def codes_of(scaled: Floats) -> NDArray[np.int8]:
    """Round to the nearest integer, ties to even, limited to +-127."""
    return np.clip(np.rint(scaled), -CODE_MAX, CODE_MAX).astype(np.int8)


def quantise_keys(keys: Floats) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Quantise the keys of one token and head, or of many.

    Parameters
    ----------
    keys : ndarray of float32, shape (..., head_size)
        A head size that is no multiple of 32 ends with a shorter block, padded with zeros.

    Returns
    -------
    scales : ndarray of float16, shape (..., blocks)
    codes : ndarray of int8, shape (..., blocks, 32)
    """
    size = keys.shape[-1]
    padded = np.zeros((*keys.shape[:-1], -(-size // BLOCK) * BLOCK), dtype=np.float32)
    padded[..., :size] = keys
    blocks = padded.reshape(*keys.shape[:-1], -1, BLOCK)
    scales = half(multiply(np.abs(blocks).max(axis=-1), CODE_STEP))
    return scales.astype(np.float16), codes_of(multiply(blocks, reciprocal(scales)[..., None]))


def quantise_values(values: Floats) -> tuple[Floats, NDArray[np.int8]]:
    """Quantise the values of one token and head, or of many.

    Parameters
    ----------
    values : ndarray of float32, shape (..., head_size)

    Returns
    -------
    scales : ndarray of float32, shape (...)
    codes : ndarray of int8, shape (..., head_size)
    """
    scales = multiply(np.abs(values).max(axis=-1), CODE_STEP)
    return scales, codes_of(multiply(values, reciprocal(scales)[..., None]))


def key_bytes(head_size: int, capacity: int, lanes: int) -> int:
    """Bytes of the keys of one KV head, a multiple of 64."""
    size = Q8_0.matrix_bytes(capacity, -(-head_size // BLOCK), lanes)
    return -(-size // 64) * 64


def key_block_place(token: int, block: int, head_blocks: int, lanes: int) -> tuple[int, int, int]:
    """Where a block of keys lies: byte offsets, from the start of the head's keys, of its scale, upper and lower nibbles.

    The scale takes 2 bytes, the nibbles 16 bytes each.
    """
    group, lane = divmod(token, lanes)
    n = group * head_blocks + block
    period = n // Q8_0.scale_blocks
    beats_per_period = 1 + Q8_0.scale_blocks * Q8_0.nibble_beats
    scale_beat = period * beats_per_period
    first = scale_beat + 1 + n % Q8_0.scale_blocks * Q8_0.nibble_beats
    pitch, place = LANE_BYTES * lanes, LANE_BYTES * lane
    return scale_beat * pitch + place + n % Q8_0.scale_blocks * 2, first * pitch + place, (first + 1) * pitch + place


def value_row_bytes(capacity: int, lanes: int) -> int:
    """Bytes from one group of `lanes` rows of values to the next: all tokens of `lanes` elements."""
    return capacity * lanes


def value_bytes(head_size: int, capacity: int, lanes: int) -> int:
    """Bytes of the values of one KV head."""
    return -(-head_size // lanes) * value_row_bytes(capacity, lanes)


def value_place(token: int, element: int, capacity: int, lanes: int) -> int:
    """Byte offset of one value from the start of the head's values."""
    group, lane = divmod(element, lanes)
    beat, byte = divmod(token, LANE_BYTES)
    return group * value_row_bytes(capacity, lanes) + (beat * lanes + lane) * LANE_BYTES + byte
