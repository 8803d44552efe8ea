"""Numbers that are taken apart into planes of 8 bits."""

import gguf
import numpy as np
import pytest

from tailrace.image.router import EXPONENT, PLANES, planes_of

SEED = 4


def together(planes: list[np.ndarray]) -> np.ndarray:
    kind = gguf.GGMLQuantizationType.Q8_0
    return sum(gguf.dequantize(p, kind).astype(np.float64) for p in planes) * 2.0**EXPONENT


@pytest.mark.parametrize("size", [2.0**-12, 0.02, 1.0, 60.0])
def test_planes_add_up(size: float) -> None:
    numbers = np.random.default_rng(SEED).uniform(-size, size, (7, 96)).astype(np.float32)
    planes = planes_of(numbers)
    assert len(planes) == PLANES
    assert all(p.shape == (7, 3 * 34) for p in planes)
    largest = np.abs(numbers).reshape(7, 3, 32).max(axis=-1, keepdims=True)
    errors = np.abs(together(planes) - numbers).reshape(7, 3, 32) / largest
    assert errors.max() <= 2.0**-21, (SEED, errors.max())


def test_bfloat16_is_exact() -> None:
    """What was bfloat16 before, within 13 powers of two of its block's largest."""
    numbers = np.random.default_rng(SEED).uniform(0.5, 1.0, (4, 64)).astype(np.float32) * 2.0 ** -(np.arange(64) % 13)
    numbers = (numbers.astype(np.float32).view(np.uint32) & 0xFFFF_0000).view(np.float32)
    assert np.array_equal(together(planes_of(numbers)), numbers)


def test_zeros() -> None:
    assert not together(planes_of(np.zeros((2, 32), dtype=np.float32))).any()
