"""KV caches as they lie in device memory: written from keys and values that were computed elsewhere, kept, and read back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.description import Attention
from tailrace.firmware.placement import CachePlace
from tailrace.spec.formats import BLOCK, LANE_BYTES, Q8_0
from tailrace.spec.kv_cache import quantise_keys, quantise_values

from .weight_stream import blocks_of_stream, stream_of_blocks

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StoredCache:
    """The first rows of a layer's cache: codes and scales, in an order that no build has a say in.

    Attributes
    ----------
    key_scales : ndarray of float16, shape (kv_heads, rows, blocks)
    key_codes : ndarray of int8, shape (kv_heads, rows, blocks, 32)
        The last block of a head ends with zeros if it is a shorter one.
    value_scales : ndarray of float32, shape (kv_heads, rows)
    value_codes : ndarray of int8, shape (kv_heads, rows, value_size)
    """

    key_scales: NDArray[np.float16]
    key_codes: NDArray[np.int8]
    value_scales: Floats
    value_codes: NDArray[np.int8]

    @property
    def shape(self) -> tuple[int, ...]:
        """KV heads, rows, elements of a value."""
        return self.value_codes.shape

    @classmethod
    def empty(cls, attention: Attention, rows: int) -> "StoredCache":
        """Rows of zeros."""
        heads, size, blocks = attention.kv_heads, attention.value_size, attention.head_blocks
        return cls(
            np.zeros((heads, rows, blocks), np.float16),
            np.zeros((heads, rows, blocks, BLOCK), np.int8),
            np.zeros((heads, rows), np.float32),
            np.zeros((heads, rows, size), np.int8),
        )

    def but_last(self) -> "StoredCache":
        """The same with zeros in the last row."""
        there = np.arange(self.shape[1]) < self.shape[1] - 1
        return StoredCache(
            self.key_scales * there[:, None],
            self.key_codes * there[:, None, None],
            self.value_scales * there,
            self.value_codes * there[:, None],
        )

    def first(self, rows: int) -> "StoredCache":
        """The first of its rows."""
        return StoredCache(
            self.key_scales[:, :rows], self.key_codes[:, :rows], self.value_scales[:, :rows], self.value_codes[:, :rows]
        )


def cache_writes(
    place: CachePlace, rows: NDArray[np.int64], keys: Floats, values: Floats, lanes: int
) -> Iterator[tuple[int, bytes]]:
    """What to write where, so that a cache holds these tokens and no others.

    Keys and values are quantised exactly as the device does it.

    Parameters
    ----------
    place : CachePlace
    rows : ndarray of int, shape (tokens,)
        Row of each token in the cache: its position, or with a window the rest of its division by the window.
    keys : ndarray of float32, shape (kv_heads, tokens, head_size)
        Rotated.
    values : ndarray of float32, shape (kv_heads, tokens, value_size)
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
    heads, _, size = keys.shape
    used, blocks = int(rows.max()) + 1, -(-size // BLOCK)
    stored = StoredCache(
        np.zeros((heads, used, blocks), np.float16),
        np.zeros((heads, used, blocks, BLOCK), np.int8),
        np.zeros((heads, used), np.float32),
        np.zeros((heads, used, values.shape[-1]), np.int8),
    )
    stored.key_scales[:, rows], stored.key_codes[:, rows] = quantise_keys(keys)
    stored.value_scales[:, rows], stored.value_codes[:, rows] = quantise_values(values)
    yield from stored_writes(place, stored, lanes)


def stored_writes(place: CachePlace, stored: StoredCache, lanes: int) -> Iterator[tuple[int, bytes]]:
    """What to write where, so that a cache begins with these rows.

    Yields
    ------
    tuple of (int, bytes)
        Address and data.
    """
    heads, rows, _ = stored.shape
    if not rows:
        return
    # A prefix of the cache holds them; the device reads nothing behind its last token.
    used = _whole_beats(rows)
    for head in range(heads):
        yield place.keys + head * place.key_stride, _keys(stored.key_scales[head], stored.key_codes[head], used, lanes)
        for group, data in enumerate(_values(stored.value_codes[head], used, lanes)):
            yield place.values + head * place.value_stride + group * place.row_stride, data
        table = np.zeros(used, dtype="<f4")
        table[:rows] = stored.value_scales[head]
        yield place.scales + head * place.scale_stride, table.tobytes()


def read_stored(
    place: CachePlace, attention: Attention, rows: int, lanes: int, read: Callable[[int, int], bytes]
) -> StoredCache:
    """Read the first rows of a cache back; the inverse of `stored_writes`.

    Parameters
    ----------
    place : CachePlace
    attention : Attention
    rows : int
    lanes : int
    read : callable
        Takes an address and a size.
    """
    heads, size = attention.kv_heads, attention.value_size
    used, blocks, groups = _whole_beats(rows), attention.head_blocks, -(-size // lanes)
    key_blocks = np.zeros((heads, rows, blocks, Q8_0.file_bytes), np.uint8)
    value_codes, scales = np.zeros((heads, rows, size), np.int8), np.zeros((heads, rows), np.float32)
    for head in range(heads if rows else 0):
        raw = read(place.keys + head * place.key_stride, Q8_0.matrix_bytes(used, blocks, lanes))
        table = blocks_of_stream(Q8_0, np.frombuffer(raw, np.uint8), used, blocks, lanes)
        key_blocks[head] = table.reshape(used, blocks, -1)[:rows]
        first = place.values + head * place.value_stride
        raw = b"".join(read(first + group * place.row_stride, used * lanes) for group in range(groups))
        beats = np.frombuffer(raw, np.int8).reshape(groups, used // LANE_BYTES, lanes, LANE_BYTES)
        value_codes[head] = beats.swapaxes(1, 2).reshape(groups * lanes, used)[:size, :rows].T
        scales[head] = np.frombuffer(read(place.scales + head * place.scale_stride, 4 * used), "<f4")[:rows]
    key_scales = np.ascontiguousarray(key_blocks[..., :2]).view("<f2")[..., 0].astype(np.float16)
    return StoredCache(key_scales, np.ascontiguousarray(key_blocks[..., 2:]).view(np.int8), scales, value_codes)


def _whole_beats(rows: int) -> int:
    return -(-rows // LANE_BYTES) * LANE_BYTES


def _keys(scales: NDArray[np.float16], codes: NDArray[np.int8], used: int, lanes: int) -> bytes:
    """The stream of a Q8_0 matrix with a row for each token."""
    blocks = np.zeros((used, codes.shape[1], Q8_0.file_bytes), dtype=np.uint8)
    blocks[: len(scales), :, :2] = np.ascontiguousarray(scales, dtype="<f2").view(np.uint8).reshape(*scales.shape, 2)
    blocks[: len(codes), :, 2:] = codes.view(np.uint8)
    return stream_of_blocks(Q8_0, blocks.reshape(used, -1), lanes).tobytes()


def _values(codes: NDArray[np.int8], used: int, lanes: int) -> Iterator[bytes]:
    """For each group of `lanes` elements of a head, the codes of all tokens: 16 tokens of each element in turn."""
    rows, size = codes.shape
    groups = -(-size // lanes)
    table = np.zeros((groups * lanes, used), dtype=np.int8)
    table[:size, :rows] = codes.T
    beats = table.reshape(groups, lanes, used // LANE_BYTES, LANE_BYTES).swapaxes(1, 2)
    for group in beats:
        yield group.tobytes()
