"""KV caches as they lie in device memory, from keys and values that were computed elsewhere."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.placement import CachePlace
from tailrace.spec.formats import LANE_BYTES, Q8_0
from tailrace.spec.kv_cache import quantise_keys, quantise_values

from .weight_stream import stream_of_blocks

Floats = NDArray[np.float32]


def cache_writes(
    place: CachePlace, rows: NDArray[np.int64], keys: Floats, values: Floats, lanes: int
) -> Iterator[tuple[int, bytes]]:
    """What to write where, so that a cache holds these tokens and no others.

    Keys and values are quantised exactly as the device does it.

    Parameters
    ----------
    place : CachePlace
    rows : ndarray of int, shape (tokens,)
        Row of each token in the cache: its position, or with a sliding window the rest of its division by the window.
    keys : ndarray of float32, shape (kv_heads, tokens, head_size)
        Rotated.
    values : ndarray of float32, shape (kv_heads, tokens, head_size)
    lanes : int

    Yields
    ------
    tuple of (int, bytes)
        Address and data.
    """
    if not rows.size:
        return
    if rows.min() < 0 or rows.max() >= place.capacity:
        raise ValueError(f"rows {rows.min()} to {rows.max()} do not lie in a cache of {place.capacity} tokens")
    # A prefix of the cache holds them; the device reads nothing behind its last token.
    used = -(-(int(rows.max()) + 1) // LANE_BYTES) * LANE_BYTES
    for head in range(len(keys)):
        yield place.keys + head * place.key_stride, _keys(rows, keys[head], used, lanes)
        scales, codes = quantise_values(values[head])
        for group, data in enumerate(_values(rows, codes, used, lanes)):
            yield place.values + head * place.value_stride + group * place.row_stride, data
        table = np.zeros(used, dtype="<f4")
        table[rows] = scales
        yield place.scales + head * place.scale_stride, table.tobytes()


def _keys(rows: NDArray[np.int64], keys: Floats, used: int, lanes: int) -> bytes:
    """The stream of a Q8_0 matrix with a row for each token."""
    scales, codes = quantise_keys(keys)
    blocks = np.zeros((used, codes.shape[1], Q8_0.file_bytes), dtype=np.uint8)
    blocks[rows, :, :2] = scales.astype("<f2").view(np.uint8).reshape(*scales.shape, 2)
    blocks[rows, :, 2:] = codes.view(np.uint8)
    return stream_of_blocks(Q8_0, blocks.reshape(used, -1), lanes).tobytes()


def _values(rows: NDArray[np.int64], codes: NDArray[np.int8], used: int, lanes: int) -> Iterator[bytes]:
    """For each group of `lanes` elements of a head, the codes of all tokens: 16 tokens of each element in turn."""
    size = codes.shape[1]
    groups = -(-size // lanes)
    table = np.zeros((groups * lanes, used), dtype=np.int8)
    table[:size, rows] = codes.T
    beats = table.reshape(groups, lanes, used // LANE_BYTES, LANE_BYTES).swapaxes(1, 2)
    for group in beats:
        yield group.tobytes()
