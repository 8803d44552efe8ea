"""`APPEND`: keys and values of one token, as codes, to their places in the cache."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.floats import half
from tailrace.spec.formats import BLOCK, LANE_BYTES
from tailrace.spec.isa import ADDRESS_UNIT, Cache
from tailrace.spec.kv_cache import codes_of, key_block_place

from .buffer import ActivationBuffer

Bytes = NDArray[np.uint8]


def appended(buffer: ActivationBuffer, fields: Mapping[str, int], lanes: int) -> Iterator[tuple[NDArray[np.int64], Bytes]]:
    """What an `APPEND` writes.

    Yields
    ------
    addresses : ndarray of int64
        Of each byte; those of one item lie in one bus beat.
    data : ndarray of uint8
        The bytes.
    """
    heads, count = fields["segments"], fields["count"]
    codes = codes_of(buffer.read(fields["a"], fields["a_stride"], heads, count))
    places = _keys if fields["cache"] == Cache.KEYS else _values
    return places(buffer, fields, codes.view(np.uint8), lanes)


def _keys(
    buffer: ActivationBuffer, fields: Mapping[str, int], codes: Bytes, lanes: int
) -> Iterator[tuple[NDArray[np.int64], Bytes]]:
    heads, count = codes.shape
    blocks = -(-count // BLOCK)
    padded = np.zeros((heads, blocks * BLOCK), dtype=np.uint8)
    padded[:, :count] = codes
    padded = padded.reshape(heads, blocks, 2, LANE_BYTES)
    upper = padded[:, :, 0] >> 4 | padded[:, :, 1] & 0xF0
    lower = padded[:, :, 0] & 0x0F | (padded[:, :, 1] & 0x0F) << 4
    scales = half(buffer.read(fields["b"], blocks, heads, blocks)).astype("<f2").reshape(heads, blocks, 1).view(np.uint8)
    for head in range(heads):
        start = (fields["destination"] + head * fields["head_stride"]) * ADDRESS_UNIT
        for block in range(blocks):
            places = key_block_place(fields["token"], block, blocks, lanes)
            for place, data in zip(places, (scales, upper, lower), strict=True):
                yield start + place + np.arange(data.shape[2]), data[head, block]


def _values(
    buffer: ActivationBuffer, fields: Mapping[str, int], codes: Bytes, lanes: int
) -> Iterator[tuple[NDArray[np.int64], Bytes]]:
    heads, count = codes.shape
    beat, byte = divmod(fields["token"], LANE_BYTES)
    scales = np.ascontiguousarray(buffer.read_bits(fields["b"], 1, heads, 1)).view(np.uint8)
    for head in range(heads):
        start = (fields["destination"] + head * fields["head_stride"]) * ADDRESS_UNIT
        for group, first in enumerate(range(0, count, lanes)):
            data = codes[head, first : first + lanes]
            row = start + group * fields["row_stride"] * ADDRESS_UNIT
            yield row + (beat * lanes + np.arange(len(data))) * LANE_BYTES + byte, data
        scale = (fields["scales"] + head * fields["scale_stride"]) * ADDRESS_UNIT + 4 * fields["token"]
        yield scale + np.arange(4), scales[head]
