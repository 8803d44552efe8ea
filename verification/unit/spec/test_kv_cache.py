"""The KV cache: the places of single codes and scales are those of a matrix's stream, and the quantisation is what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tailrace.spec.formats import LANE_BYTES, Q8_0, BeatKind
from tailrace.spec.kv_cache import (
    CODE_MAX,
    codes_of,
    key_block_place,
    key_bytes,
    quantise_keys,
    quantise_values,
    value_bytes,
    value_place,
    value_row_bytes,
)

HEADS = st.sampled_from([32, 40, 64, 80, 96, 128, 256])
floats = st.floats(-1e4, 1e4, width=32).map(lambda v: 0.0 if abs(v) < 1e-30 else v)


@given(HEADS.flatmap(lambda size: arrays(np.float32, (2, size), elements=floats)))
def test_keys_come_back(keys: np.ndarray) -> None:
    """To half a step, and what rounding the scale to float16 costs."""
    scales, codes = quantise_keys(keys)
    size = keys.shape[-1]
    assert (scales.dtype, codes.dtype, codes.shape) == (np.float16, np.int8, (2, -(-size // 32), 32))
    padded = np.zeros((2, codes.shape[1] * 32), dtype=np.float64)
    padded[:, :size] = keys
    step = scales.astype(np.float64)[..., None]
    error = np.abs(codes * step - padded.reshape(codes.shape))
    largest = np.abs(padded.reshape(codes.shape)).max(axis=-1, keepdims=True)
    # Scales below float16's smallest number become zero, those between have fewer bits.
    assert (error <= 0.5 * step + largest * 2.0**-10 + CODE_MAX * 2.0**-24).all()
    assert np.abs(codes.astype(int)).max() <= CODE_MAX
    assert not codes.reshape(2, -1)[:, size:].any()


@given(HEADS.flatmap(lambda size: arrays(np.float32, (3, size), elements=floats)))
def test_values_come_back(values: np.ndarray) -> None:
    scales, codes = quantise_values(values)
    assert (scales.dtype, scales.shape, codes.dtype, codes.shape) == (np.float32, (3,), np.int8, values.shape)
    error = np.abs(codes * scales.astype(np.float64)[:, None] - values)
    assert (error <= 0.5001 * scales[:, None]).all()
    used = np.abs(values).max(axis=-1) > 0
    assert (np.abs(codes.astype(int)).max(axis=-1) == np.where(used, CODE_MAX, 0)).all()


def test_zeros() -> None:
    for scales, codes in (quantise_keys(np.zeros((1, 64), np.float32)), quantise_values(np.zeros((1, 64), np.float32))):
        assert not scales.any()
        assert not codes.any()


def test_codes_are_rounded_to_even_and_limited() -> None:
    assert codes_of(np.array([0.5, 1.5, -2.5, 127.6, -1e9], np.float32)).tolist() == [0, 2, -2, 127, -127]


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("blocks", [1, 2, 3, 8])
def test_keys_lie_in_the_order_of_their_stream(lanes: int, blocks: int) -> None:
    """Walk the schedule of the format and look each beat up."""
    capacity = 64
    per_lane = capacity // lanes * blocks
    seen = 0
    for lane in range(lanes):
        scale_beat, nibble = 0, 0
        for t, (kind, n) in enumerate(Q8_0.schedule(per_lane)):
            place = t * LANE_BYTES * lanes + LANE_BYTES * lane
            if kind is BeatKind.SCALE:
                scale_beat = place
                continue
            group, block = divmod(n, blocks)
            expected = key_block_place(group * lanes + lane, block, blocks, lanes)
            assert expected[0] == scale_beat + 2 * (n % 8)
            assert expected[1 + nibble] == place
            nibble = 1 - nibble
            seen = max(seen, place + LANE_BYTES)
    assert seen <= key_bytes(32 * blocks, capacity, lanes) < seen + 64
    assert key_bytes(32 * blocks, capacity, lanes) % 64 == 0


@given(st.sampled_from([1, 2, 4]), st.sampled_from([64, 128, 1024]), st.integers(1, 256), st.data())
def test_values_lie_in_rows_of_tokens(lanes: int, capacity: int, head_size: int, data: st.DataObject) -> None:
    """Element by element, 16 tokens to a beat of its lane."""
    token, element = data.draw(st.integers(0, capacity - 1)), data.draw(st.integers(0, head_size - 1))
    place = value_place(token, element, capacity, lanes)
    group, rest = divmod(place, value_row_bytes(capacity, lanes))
    beat, in_bus = divmod(rest, LANE_BYTES * lanes)
    lane, byte = divmod(in_bus, LANE_BYTES)
    assert (group * lanes + lane, beat * LANE_BYTES + byte) == (element, token)
    assert place < value_bytes(head_size, capacity, lanes)


def test_no_two_values_share_a_byte() -> None:
    places = {value_place(t, e, 64, 4) for t in range(64) for e in range(32)}
    assert places == set(range(value_bytes(32, 64, 4)))
