"""KV caches that were computed elsewhere lie as the specification says."""

import re
import struct

import numpy as np
import pytest

from tailrace.firmware.placement import CachePlace
from tailrace.image.kv_cache import cache_writes
from tailrace.spec.kv_cache import (
    key_block_place,
    key_bytes,
    quantise_keys,
    quantise_values,
    value_bytes,
    value_place,
    value_row_bytes,
)

SEED = 11
HEADS, CAPACITY = 2, 64


def place_of(size: int, lanes: int) -> CachePlace:
    key, value, scale = key_bytes(size, CAPACITY, lanes), value_bytes(size, CAPACITY, lanes), 4 * CAPACITY
    keys, values, scales = 64, 64 + HEADS * key, 64 + HEADS * (key + value)
    return CachePlace(keys, values, scales, key, value, scale, value_row_bytes(CAPACITY, lanes), CAPACITY)


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("size", [32, 40, 64])
@pytest.mark.parametrize("rows", [[0], list(range(33)), [62, 63, 0, 1, 2]])
def test_every_code_and_scale_is_in_its_place(lanes: int, size: int, rows: list[int]) -> None:
    random = np.random.default_rng(SEED)
    keys, values = (random.standard_normal((HEADS, len(rows), size)).astype(np.float32) for _ in range(2))
    place = place_of(size, lanes)
    memory = bytearray(place.scales + HEADS * place.scale_stride)
    for address, data in cache_writes(place, np.array(rows), keys, values, lanes):
        assert address % 16 == 0
        memory[address : address + len(data)] = data
    key_scales, key_codes = quantise_keys(keys)
    value_scales, value_codes = quantise_values(values)
    blocks = key_codes.shape[2]
    for head in range(HEADS):
        for number, row in enumerate(rows):
            where = (SEED, head, row)
            for block in range(blocks):
                scale, upper, lower = (
                    place.keys + head * place.key_stride + p for p in key_block_place(row, block, blocks, lanes)
                )
                assert memory[scale : scale + 2] == key_scales[head, number, block].tobytes(), where
                for j in range(16):
                    first, second = key_codes[head, number, block, [j, j + 16]].view(np.uint8)
                    assert memory[upper + j] == first >> 4 | second & 0xF0, where
                    assert memory[lower + j] == first & 0xF | (second & 0xF) << 4, where
            for element in range(size):
                at = place.values + head * place.value_stride + value_place(row, element, CAPACITY, lanes)
                assert memory[at] == value_codes[head, number, element].view(np.uint8), where
            scale = place.scales + head * place.scale_stride + 4 * row
            assert struct.unpack_from("<f", memory, scale)[0] == value_scales[head, number], where


def test_rows_that_do_not_exist() -> None:
    keys = np.zeros((HEADS, 1, 32), dtype=np.float32)
    assert list(cache_writes(place_of(32, 1), np.array([], dtype=np.int64), keys[:, :0], keys[:, :0], 1)) == []
    with pytest.raises(ValueError, match=re.escape("rows 64 to 64 do not lie in a cache of 64 tokens")):
        list(cache_writes(place_of(32, 1), np.array([64]), keys, keys, 1))
