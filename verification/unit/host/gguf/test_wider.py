"""What the device has of formats that it does not read are the values that the `gguf` package reads."""

import gguf
import numpy as np
import pytest

from tailrace.gguf.file import Tensor
from tailrace.gguf.types import TENSOR_TYPE_NUMBERS, TENSOR_TYPES
from tailrace.gguf.wider import WIDER, widened
from tailrace.golden.stream import unpack
from tailrace.image.weight_stream import blocks_of_stream, stream_of_blocks
from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BLOCK

SEED = 7
#: Bytes of a block that hold its float16 numbers. Those of IQ1_M lie in the upper four bits of its last four words.
SCALES = {"Q2_K": slice(80, 84), "Q3_K": slice(-2, None), "TQ1_0": slice(-2, None), "TQ2_0": slice(-2, None)}


def set_scales(name: str, table: np.ndarray, scales: np.ndarray) -> None:
    if name == "IQ1_M":
        words = np.ascontiguousarray(table[..., 48:]).view("<u2") & np.uint16(0x0FFF)
        parts = scales >> np.array([0, 4, 8, 12], dtype=np.uint16) & np.uint16(15)
        table[..., 48:] = (words | parts << np.uint16(12)).view(np.uint8)
    else:
        table[..., SCALES.get(name, slice(2))] = scales.astype("<u2").view(np.uint8)


def random_rows(name: str, rows: int = 7, count: int = 3) -> np.ndarray:
    """Any bytes, but for scales, which are any numbers below 16; some are 0 and some subnormal."""
    random = np.random.default_rng((SEED, TENSOR_TYPE_NUMBERS[name]))
    raw = random.integers(0, 256, (rows, count, TENSOR_TYPES[TENSOR_TYPE_NUMBERS[name]].bytes), dtype=np.uint8)
    shape = rows, count, 1 + (name == "Q2_K")
    scales = random.integers(0, 0x4C00, shape).astype(np.uint16) | (random.integers(0, 2, shape) << 15).astype(np.uint16)
    scales[0, 0] = 0
    scales[1, 1] = 0x8003
    set_scales(name, raw, scales)
    return raw.reshape(rows, -1)


def numbers(name: str, blocks: np.ndarray) -> np.ndarray:
    """Weights as golden finds them in a stream."""
    fmt, rows = WIDER[name].format, len(blocks)
    columns = blocks.shape[1] // fmt.file_bytes * fmt.file_elements
    stream = stream_of_blocks(fmt, blocks, 2)
    matrix = unpack(stream, fmt, rows, columns // BLOCK, 2)
    weights = matrix.codes * matrix.scales.astype(np.float64)[..., None]
    planes = weights.transpose(1, 0, 2).reshape(rows, -1, fmt.planes, BLOCK)
    assert np.array_equal(blocks_of_stream(fmt, stream, rows, columns // BLOCK, 2), blocks)
    return (planes.sum(axis=2) * 2.0 ** (WIDER[name].exponent - 24)).reshape(rows, -1)


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
    set_scales(name, raw.reshape(7, 3, -1)[4:5, 2:3], np.full((1, 1, 1 + (name == "Q2_K")), 0x7C00, dtype=np.uint16))
    with pytest.raises(ModelError, match="^m is damaged: a scale or minimum in row 4 is not finite. Download the model again"):
        tensor.check_finite()


@pytest.mark.parametrize("name", WIDER)
def test_any_scale_is_taken(name: str) -> None:
    raw = random_rows(name)
    set_scales(name, raw.reshape(7, 3, -1), np.full((7, 3, 1 + (name == "Q2_K")), 0x7BFF, dtype=np.uint16))
    assert np.array_equal(
        numbers(name, widened(name, raw)).astype(np.float32), gguf.dequantize(raw, gguf.GGMLQuantizationType[name])
    )
