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
from tailrace.spec.formats import WEIGHT_FORMATS, Format, ScaleKind
from tailrace.spec.numerics import dequantise, quantise, round_to_float32
from verification.unit.golden.packing import Weights, pack
from verification.unit.golden.reference import integer_weights


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    """ggml's own code."""
    library = next(Path(libggml.__file__).parent.glob("lib*/*ggml-base.*"))
    return ctypes.CDLL(str(library))


def ggml_quantise(ggml: ctypes.CDLL, weight_format: Format, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """ggml's blocks, shape (rows, blocks of the file, file_bytes)."""
    rows, columns = values.shape
    quantised = np.empty((rows, columns // weight_format.file_elements, weight_format.file_bytes), dtype=np.uint8)
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
    """Values, shape (rows, columns)."""
    rows, blocks, _ = quantised.shape
    values = np.empty((rows, blocks * weight_format.file_elements), dtype=np.float32)
    function = getattr(ggml, "dequantize_row_" + weight_format.name.lower().replace("_k", "_K"))
    function(quantised.ctypes.data_as(ctypes.c_void_p), values.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(values.size))
    return values


def halves(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Lower nibbles, then upper ones, along the last axis."""
    return np.concatenate((packed & 15, packed >> 4), axis=-1).astype(np.int64)


def read_blocks(weight_format: Format, quantised: NDArray[np.uint8], exponent: int) -> Weights:
    """Codes and scales as ggml's block structures hold them; scales of MXFP4 relative to 2**`exponent`."""
    rows, file_blocks, _ = quantised.shape
    blocks = file_blocks * weight_format.row_blocks
    subscales = np.zeros((rows, blocks, 2), dtype=np.int8)

    def bits(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.unpackbits(packed, axis=-1, bitorder="little").astype(np.int64)

    match weight_format.scale_kind:
        case ScaleKind.FLOAT16:
            at = 4 if weight_format.has_minimum else 2
            scales, rest = quantised[..., :at], quantised[..., at:]
            if weight_format.nibble_beats == 2:
                codes = rest.view(np.int8).astype(np.int64)
            elif weight_format.high_bits:
                codes = halves(rest[..., 4:]) | bits(rest[..., :4]) << 4
            else:
                codes = halves(rest)
        case ScaleKind.EXPONENT:
            scales, codes = quantised[..., :1].astype(int) - 128 + 24 - exponent, halves(quantised[..., 1:])
            assert scales.min() >= 0
            assert scales.max() <= 30
            scales = scales.astype(np.uint8)
        case ScaleKind.FLOAT8:
            scales = quantised[..., :4].reshape(rows, blocks, 2)
            codes = halves(quantised[..., 4:].reshape(rows, blocks, 2, 8)).reshape(rows, blocks, 32)
        case ScaleKind.SIGNED_SUPERBLOCK:
            scales, codes = quantised[..., :8], halves(quantised[..., 8:].reshape(rows, blocks, 16))
        case ScaleKind.SUPERBLOCK:
            scales, rest = quantised[..., :16], quantised[..., 16:]
            codes = halves(rest[..., -128:].reshape(rows, -1, 4, 32)).reshape(rows, blocks, 32)
            if weight_format.high_bits:
                # Bit j of byte l belongs to element l of sub-block j.
                upper = bits(rest[..., :32]).reshape(rows, file_blocks, 32, 8).swapaxes(2, 3)
                codes = codes | upper.reshape(rows, blocks, 32) << 4
        case _:
            lower, upper = quantised[..., :128].reshape(rows, -1, 2, 64), quantised[..., 128:192].reshape(rows, -1, 2, 32)
            upper = np.concatenate([upper >> 2 * i & 3 for i in range(4)], axis=-1).astype(np.int64)
            codes = (halves(lower) | upper << 4).reshape(rows, blocks, 32)
            subscales = quantised[..., 192:208].view(np.int8).reshape(rows, blocks, 2)
            scales = quantised[..., 208:]
    return Weights(weight_format, codes.reshape(rows, blocks, 32), np.ascontiguousarray(scales), subscales)


def exact_dot(w: NDArray[np.float64], x: NDArray[np.float64]) -> int:
    """Bits of the float32 next to the exact sum of products."""
    total = sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(w, x, strict=True)), Fraction(0))
    # Denominators of floats are powers of two.
    return round_to_float32(total.numerator, 1 - total.denominator.bit_length())


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS, ids=lambda f: f.name)
def test_products_of_ggml_blocks(ggml: ctypes.CDLL, rng: np.random.Generator, weight_format: Format, lanes: int) -> None:
    rows, blocks = 6, 16
    exponent = {ScaleKind.EXPONENT: -5, ScaleKind.FLOAT8: 7}.get(weight_format.scale_kind, 0)
    values = (rng.standard_normal((rows, blocks * 32)) * 0.07 * 2.0 ** rng.integers(-3, 3, (rows, 1))).astype(np.float32)
    quantised = ggml_quantise(ggml, weight_format, values)
    weights = read_blocks(weight_format, quantised, exponent)
    theirs = ggml_dequantise(ggml, weight_format, quantised)
    ours = np.array(integer_weights(weights), dtype=np.float64).reshape(rows, -1) * 2.0 ** (exponent - 24)
    # ggml rounds weights of K-quants to float32, the device does not.
    assert np.array_equal(ours.astype(np.float32), theirs)
    assert np.abs(theirs - values).max() < 0.3 * np.abs(values).max()

    vectors = [Vector(*quantise((rng.standard_normal(blocks * 32) * 5).astype(np.float32))) for _ in range(2)]
    matrix = unpack(np.frombuffer(pack(weights, lanes), dtype=np.uint8), weight_format, rows, blocks, lanes)
    x = [dequantise(v.base, v.exponents, v.mantissas) for v in vectors]
    expected = [[exact_dot(row, one) for one in x] for row in ours]
    results = multiply(matrix, [Vector(v.base + exponent, v.exponents, v.mantissas) for v in vectors])
    assert results.tolist() == expected
    # And float64 sums, as others would make them, agree to the last float32 bit or a neighbour.
    sums = (ours @ np.stack(x, axis=1)).astype(np.float32)
    assert np.abs(sums.view(np.int32).astype(np.int64) - results.view(np.int32)).max() <= 1
