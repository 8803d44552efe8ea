"""Numbers that are taken apart into planes of 8 bits."""

import gguf
import numpy as np
import pytest

from tailrace.gguf.planes import EXPONENT, planes_of
from tailrace.spec.errors import ModelError
from tailrace.spec.formats import Q8_0X3

SEED = 4


def together(blocks: np.ndarray) -> np.ndarray:
    planes = gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0).reshape(len(blocks), -1, Q8_0X3.planes, 32)
    return planes.astype(np.float64).sum(axis=2).reshape(len(blocks), -1) * 2.0**EXPONENT


@pytest.mark.parametrize("size", [2.0**-12, 0.02, 1.0, 60.0])
def test_planes_add_up(size: float) -> None:
    numbers = np.random.default_rng(SEED).uniform(-size, size, (7, 96)).astype(np.float32)
    planes = planes_of(numbers)
    assert planes.shape == (7, Q8_0X3.row_bytes(96))
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


@pytest.mark.parametrize("number", [64.0, -1000.0])
def test_numbers_that_are_too_large(number: float) -> None:
    numbers = np.zeros((2, 32), dtype=np.float32)
    numbers[1, 3] = number
    text = (
        f"a number of magnitude {abs(number):g} in it does not fit planes of 8 bits, which hold numbers below 64: ask for a format with"
        " --quantise Q8_0; if it is a router of experts, get a file that has it quantised"
    )
    with pytest.raises(ModelError, match=f"^{text}$"):
        planes_of(numbers)
    numbers[1, 3] = np.nextafter(np.float32(64), np.float32(0))
    assert np.abs(together(planes_of(numbers)) - numbers).max() <= 64 * 2.0**-21
