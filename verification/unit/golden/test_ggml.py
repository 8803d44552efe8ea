"""Products agree with what ggml itself makes of its blocks, to one float32 rounding."""

import ctypes
from fractions import Fraction
from pathlib import Path

import libggml
import numpy as np
import pytest
from numpy.typing import NDArray

from tailrace.golden.dot import Vector, multiply
from tailrace.golden.stream import unpack
from tailrace.spec.formats import FORMATS, Format
from tailrace.spec.numerics import dequantise, quantise, round_to_float32
from verification.unit.golden.packing import Weights, pack


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    """ggml's own code."""
    library = next(Path(libggml.__file__).parent.glob("lib*/*ggml-base.*"))
    return ctypes.CDLL(str(library))


def ggml_quantise(ggml: ctypes.CDLL, weight_format: Format, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """ggml's blocks, shape (rows, blocks, block_bytes)."""
    rows, columns = values.shape
    quantised = np.empty((rows, columns // 32, weight_format.block_bytes), dtype=np.uint8)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    written = ggml.ggml_quantize_chunk(
        weight_format.ggml_type,
        values.ctypes.data_as(ctypes.c_void_p),
        quantised.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(0),
        ctypes.c_int64(rows),
        ctypes.c_int64(columns),
        None,
    )
    assert written == quantised.nbytes
    return quantised


def ggml_dequantise(ggml: ctypes.CDLL, weight_format: Format, quantised: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Values, shape (rows, 32 * blocks)."""
    rows, blocks, _ = quantised.shape
    values = np.empty((rows, blocks * 32), dtype=np.float32)
    function = getattr(ggml, f"dequantize_row_{weight_format.name.lower()}")
    function(quantised.ctypes.data_as(ctypes.c_void_p), values.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(values.size))
    return values


def read_blocks(weight_format: Format, quantised: NDArray[np.uint8]) -> Weights:
    """Codes, scales and minima as ggml's block structures hold them."""
    rows, blocks, _ = quantised.shape

    def float16(at: int) -> NDArray[np.uint16]:
        return np.ascontiguousarray(quantised[..., at : at + 2]).view("<u2")[..., 0]

    scales, minima, at = float16(0), np.zeros((rows, blocks), dtype=np.uint16), 2
    if weight_format.has_minimum:
        minima, at = float16(2), 4
    if weight_format.nibble_beats == 2:
        return Weights(weight_format, quantised[..., at:].view(np.int8).astype(np.int64), scales, minima)
    upper = np.zeros((rows, blocks, 32), dtype=np.int64)
    if weight_format.high_bits:
        upper = np.unpackbits(quantised[..., at : at + 4], axis=2, bitorder="little").astype(np.int64) << 4
        at += 4
    nibbles = np.concatenate((quantised[..., at:] & 15, quantised[..., at:] >> 4), axis=2)
    return Weights(weight_format, upper | nibbles, scales, minima)


def exact_dot(w: NDArray[np.float32], x: NDArray[np.float64]) -> int:
    """Bits of the float32 next to the exact sum of products."""
    total = sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(w, x, strict=True)), Fraction(0))
    # Denominators of floats are powers of two.
    return round_to_float32(total.numerator, 1 - total.denominator.bit_length())


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda f: f.name)
def test_products_of_ggml_blocks(ggml: ctypes.CDLL, rng: np.random.Generator, weight_format: Format, lanes: int) -> None:
    rows, blocks = 6, 18
    values = (rng.standard_normal((rows, blocks * 32)) * 0.07 * 2.0 ** rng.integers(-3, 3, (rows, 1))).astype(np.float32)
    quantised = ggml_quantise(ggml, weight_format, values)
    weights = read_blocks(weight_format, quantised)
    theirs = ggml_dequantise(ggml, weight_format, quantised)
    ours = (weights.codes - weight_format.code_offset) * weights.scales.view(np.float16).astype(np.float64)[..., None]
    ours += weights.minima.view(np.float16).astype(np.float64)[..., None]
    assert np.array_equal(ours.reshape(rows, -1), theirs), "ggml rounds these weights: choose others"

    vectors = [Vector(*quantise((rng.standard_normal(blocks * 32) * 5).astype(np.float32))) for _ in range(2)]
    matrix = unpack(np.frombuffer(pack(weights, lanes), dtype=np.uint8), weight_format, rows, blocks, lanes)
    x = [dequantise(v.base, v.exponents, v.mantissas) for v in vectors]
    expected = [[exact_dot(row, one) for one in x] for row in theirs]
    results = multiply(matrix, vectors)
    assert results.tolist() == expected
    # And float64 sums, as others would make them, agree to the last float32 bit or a neighbour.
    sums = (theirs.astype(np.float64) @ np.stack(x, axis=1)).astype(np.float32)
    assert np.abs(sums.view(np.int32).astype(np.int64) - results.view(np.int32)).max() <= 1
