"""What the device has of formats that it does not read are the values that the `gguf` package reads."""

import gguf
import numpy as np
import pytest

from tailrace.gguf.file import Tensor
from tailrace.gguf.types import TENSOR_TYPE_NUMBERS, TENSOR_TYPES
from tailrace.gguf.wider import WIDER, widened
from tailrace.golden.dot import Vector, multiply
from tailrace.golden.stream import unpack
from tailrace.image.weight_stream import blocks_of_stream, stream_of_blocks
from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BLOCK, Format, ScaleKind
from tailrace.spec.numerics import quantise

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
    if matrix.minima is not None:
        weights += matrix.minima[..., None]
    assert np.array_equal(blocks_of_stream(fmt, stream, rows, columns // BLOCK, 2), blocks)
    return weights.transpose(1, 0, 2).reshape(rows, -1) * 2.0 ** (WIDER[name].exponent - 24)


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


#: A sum of two planes of codes with subscales.
TWO_PLANES = Format("two planes", 0, -1, 32, 2 * 20, ScaleKind.FLOAT16, 8, code_offset=8, subscale_blocks=8, planes=2)


def as_two_planes(raw: np.ndarray) -> np.ndarray:
    """Q2_K as codes times scale, plus -1 times minimum."""
    table = raw.reshape(len(raw), -1, 84)
    packed, stored, scales = table[..., :16], table[..., 16:80].reshape(*table.shape[:2], 2, 1, 32), table[..., 80:]
    codes = (stored >> (2 * np.arange(4, dtype=np.uint8))[:, None] & 3).reshape(*table.shape[:2], 8, 32)
    planes = []
    for plane, (values, subscales) in enumerate(((codes, packed & 15), (np.full_like(codes, 255), packed >> 4))):
        nibbles = values + 8 & 15
        float16 = np.repeat(scales[:, :, None, 2 * plane : 2 * plane + 2], 8, axis=2)
        parts = nibbles[..., :16] | nibbles[..., 16:] << 4, subscales.reshape(*codes.shape[:3], 2), float16
        planes.append(np.concatenate(parts, axis=-1))
    return np.stack(planes, axis=-2).reshape(len(raw), -1)


def test_products_of_q2_k_are_those_of_two_planes() -> None:
    raw = random_rows("Q2_K", 9, 4)
    vectors = [Vector(*quantise(np.random.default_rng((SEED, n)).standard_normal(1024, dtype=np.float32))) for n in range(2)]
    held, planes = (
        multiply(unpack(stream_of_blocks(fmt, blocks, 2), fmt, 9, 32, 2), vectors)
        for fmt, blocks in ((WIDER["Q2_K"].format, widened("Q2_K", raw)), (TWO_PLANES, as_two_planes(raw)))
    )
    assert np.array_equal(held, planes), SEED
    assert np.unique(held).size > 10
