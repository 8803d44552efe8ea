"""Offsets wrap around; segments are where their stride says."""

import numpy as np
import pytest

from tailrace.golden.buffer import ActivationBuffer


@pytest.mark.parametrize("first", [0, 4, 56, 60, 63])
@pytest.mark.parametrize(("stride", "segments", "count"), [(0, 1, 64), (8, 3, 5), (4, 3, 4), (0, 3, 4), (4, 5, 8), (64, 2, 3)])
def test_reads(rng: np.random.Generator, first: int, stride: int, segments: int, count: int) -> None:
    buffer = ActivationBuffer(64)
    buffer.bits[:] = rng.standard_normal(64).astype(np.float32).view(np.uint32)
    expected = [[buffer.bits[(first + s * stride + i) % 64] for i in range(count)] for s in range(segments)]
    assert buffer.read_bits(first, stride, segments, count).tolist() == expected
    assert buffer.read(first, stride, segments, count).view(np.uint32).tolist() == expected


@pytest.mark.parametrize("first", [0, 4, 56, 60, 63, 64, 100])
@pytest.mark.parametrize(("stride", "segments", "count"), [(0, 1, 64), (8, 3, 5), (4, 3, 4), (0, 3, 4), (4, 5, 8), (64, 2, 3)])
def test_writes(rng: np.random.Generator, first: int, stride: int, segments: int, count: int) -> None:
    buffer = ActivationBuffer(64)
    values = rng.integers(1, 1 << 32, (segments, count), dtype=np.uint32)
    expected = [0] * 64
    for s in range(segments):
        for i in range(count):
            expected[(first + s * stride + i) % 64] = int(values[s, i])
    buffer.write(first, stride, values)
    assert buffer.bits.tolist() == expected


def test_what_is_read_is_canonical_and_a_copy() -> None:
    buffer = ActivationBuffer(8)
    buffer.bits[:4] = 1, 0x8000_0000, 0x7FC0_0000, 0x3F80_0000
    x = buffer.read(0, 0, 1, 4)
    assert x.view(np.uint32).tolist() == [[0, 0, 0x7F80_0000, 0x3F80_0000]]
    x[:] = 7
    assert buffer.bits[3] == 0x3F80_0000
    assert buffer.bits[0] == 1
