"""What the device has of formats that it does not read are the values that the `gguf` package reads."""

import gguf
import numpy as np
import pytest

from tailrace.gguf.file import Tensor
from tailrace.gguf.types import TENSOR_TYPE_NUMBERS, TENSOR_TYPES
from tailrace.gguf.wider import WIDER, widened
from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BLOCK

SEED = 7


def random_rows(name: str, rows: int = 7, count: int = 3) -> np.ndarray:
    """Any bytes, but for scales, which are any numbers below 16; some are 0 and some subnormal."""
    random = np.random.default_rng((SEED, TENSOR_TYPE_NUMBERS[name]))
    raw = random.integers(0, 256, (rows, count, TENSOR_TYPES[TENSOR_TYPE_NUMBERS[name]].bytes), dtype=np.uint8)
    scales = np.ascontiguousarray(raw[..., WIDER[name].scales]).view("<u2") % np.uint16(0x4C00)
    scales |= (random.integers(0, 2, scales.shape) << 15).astype(np.uint16)
    scales[0, 0] = 0
    scales[1, 1] = 0x8003
    raw[..., WIDER[name].scales] = scales.view(np.uint8)
    return raw.reshape(rows, -1)


def numbers(name: str, blocks: np.ndarray) -> np.ndarray:
    fmt = WIDER[name].format
    base = gguf.GGMLQuantizationType.Q8_0 if fmt.planes > 1 else gguf.GGMLQuantizationType[fmt.name]
    planes = gguf.dequantize(blocks, base).astype(np.float64).reshape(len(blocks), -1, fmt.planes, BLOCK)
    return (planes.sum(axis=2) * 2.0 ** WIDER[name].exponent).reshape(len(blocks), -1)


@pytest.mark.parametrize("name", WIDER)
def test_every_value_is_the_same(name: str) -> None:
    raw = random_rows(name)
    expected = gguf.dequantize(raw, gguf.GGMLQuantizationType[name])
    blocks = widened(name, raw)
    assert blocks.shape == (len(raw), WIDER[name].format.row_bytes(expected.shape[1]))
    # The package rounds the difference of Q2_K to a float32; all else is exact.
    assert np.array_equal(numbers(name, blocks).astype(np.float32), expected), SEED
    assert np.unique(expected).size > 5


@pytest.mark.parametrize("name", WIDER)
def test_scales_that_are_no_numbers(name: str) -> None:
    raw = random_rows(name)
    tensor = Tensor("m", name, TENSOR_TYPE_NUMBERS[name], (7, 3 * 256), raw)
    tensor.check_finite()
    raw.reshape(7, 3, -1)[4, 2, WIDER[name].scales] = 0x7C
    with pytest.raises(ModelError, match="^m is damaged: a scale or minimum in row 4 is not finite. Download the model again"):
        tensor.check_finite()


def test_scales_that_are_too_large() -> None:
    table = random_rows("IQ3_S").reshape(7, 3, -1)
    table[2, 0, :2] = np.frombuffer(np.float16(512).tobytes(), dtype=np.uint8)
    with pytest.raises(ModelError, match="^a scale of IQ3_S blocks is 512 or more: get the model in another format$"):
        widened("IQ3_S", table.reshape(7, -1))
