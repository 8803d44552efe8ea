"""`APPEND`: keys and values of one token, as codes, to their places in the cache."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.floats import half
from tailrace.spec.formats import BLOCK, LANE_BYTES
from tailrace.spec.isa import ADDRESS_UNIT, Cache
from tailrace.spec.kv_cache import codes_of, key_block_place

from .buffer import ActivationBuffer

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Appended:
    """What an `APPEND` writes.

    Attributes
    ----------
    addresses : ndarray of int64, shape (bytes,)
        Of each byte, in the order of the writes.
    data : ndarray of uint8, shape (bytes,)
    beats : int
        Bus beats that the writes take.
    """

    addresses: NDArray[np.int64]
    data: Bytes
    beats: int


def appended(buffer: ActivationBuffer, fields: Mapping[str, int], lanes: int) -> Appended:
    """What an `APPEND` writes."""
    heads, count = fields["segments"], fields["count"]
    codes = codes_of(buffer.read(fields["a"], fields["a_stride"], heads, count)).view(np.uint8)
    return (_keys if fields["cache"] == Cache.KEYS else _values)(buffer, fields, codes, lanes)


def _starts(fields: Mapping[str, int], start: str, stride: str) -> NDArray[np.int64]:
    """Byte addresses of something of each head, shape (heads,)."""
    return (fields[start] + np.arange(fields["segments"]) * fields[stride]) * ADDRESS_UNIT


def _keys(buffer: ActivationBuffer, fields: Mapping[str, int], codes: Bytes, lanes: int) -> Appended:
    heads, count = codes.shape
    blocks = -(-count // BLOCK)
    padded = np.zeros((heads, blocks * BLOCK), dtype=np.uint8)
    padded[:, :count] = codes
    padded = padded.reshape(heads, blocks, 2, LANE_BYTES)
    upper = padded[:, :, 0] >> 4 | padded[:, :, 1] & 0xF0
    lower = padded[:, :, 0] & 0x0F | (padded[:, :, 1] & 0x0F) << 4
    scales = half(buffer.read(fields["b"], blocks, heads, blocks)).astype("<f2").reshape(heads, blocks, 1).view(np.uint8)
    sizes = [scales.shape[2], LANE_BYTES, LANE_BYTES]
    places = np.array([key_block_place(fields["token"], block, blocks, lanes) for block in range(blocks)])
    # Bytes of a block: of its scale, of its upper and of its lower nibbles.
    of_block = np.repeat(places, sizes, axis=1) + np.concatenate([np.arange(size) for size in sizes])
    addresses = _starts(fields, "destination", "head_stride")[:, None, None] + of_block
    return Appended(
        addresses.reshape(-1), np.concatenate((scales, upper, lower), axis=2).reshape(-1), heads * blocks * len(sizes)
    )


def _values(buffer: ActivationBuffer, fields: Mapping[str, int], codes: Bytes, lanes: int) -> Appended:
    heads, count = codes.shape
    beat, byte = divmod(fields["token"], LANE_BYTES)
    group, lane = np.divmod(np.arange(count), lanes)
    of_element = group * fields["row_stride"] * ADDRESS_UNIT + (beat * lanes + lane) * LANE_BYTES + byte
    scales = np.ascontiguousarray(buffer.read_bits(fields["b"], 1, heads, 1)).view(np.uint8)
    addresses = (
        _starts(fields, "destination", "head_stride")[:, None] + of_element,
        _starts(fields, "scales", "scale_stride")[:, None] + 4 * fields["token"] + np.arange(4),
    )
    data = np.concatenate((codes, scales), axis=1).reshape(-1)
    return Appended(np.concatenate(addresses, axis=1).reshape(-1), data, heads * (-(-count // lanes) + 1))
