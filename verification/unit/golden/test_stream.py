"""Unpacking a stream gives back what was packed, for every format, shape and number of lanes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.golden.stream import unpack
from tailrace.spec.formats import FORMATS, Format
from verification.unit.golden.packing import pack, random_weights
from verification.unit.golden.reference import significand


@given(st.sampled_from(FORMATS), st.integers(1, 40), st.integers(1, 20), st.sampled_from([1, 2, 4]), st.integers(0, 2**32 - 1))
def test_codes_scales_and_minima_come_back(weight_format: Format, rows: int, blocks: int, lanes: int, seed: int) -> None:
    weights = random_weights(np.random.default_rng(seed), weight_format, rows, blocks, (0, 31))
    image = pack(weights, lanes)
    assert len(image) == weight_format.matrix_bytes(rows, blocks, lanes)
    matrix = unpack(np.frombuffer(image, dtype=np.uint8), weight_format, rows, blocks, lanes)
    assert np.array_equal(matrix.codes.transpose(1, 0, 2), weights.codes - weight_format.code_offset)
    assert np.abs(matrix.codes.astype(int)).max() <= matrix.code_limit
    assert np.array_equal(matrix.scales.T, np.vectorize(significand)(weights.scales))
    planes = [weights.scales]
    if weight_format.has_minimum:
        assert matrix.minima is not None
        assert np.array_equal(matrix.minima.T, np.vectorize(significand)(weights.minima))
        assert np.array_equal(matrix.largest_minima, np.abs(matrix.minima).max(axis=1))
        planes.append(weights.minima)
    else:
        assert matrix.minima is None
        assert not matrix.largest_minima.any()
    assert np.array_equal(matrix.largest_scales, np.abs(matrix.scales).max(axis=1))
    values = [significand(int(bits)) for plane in planes for bits in plane.reshape(-1)]
    assert all(value % (1 << matrix.lowest) == 0 for value in values)


def test_bytes_of_a_matrix(rng: np.random.Generator) -> None:
    matrix = unpack(rng.integers(0, 256, FORMATS[2].matrix_bytes(6, 5, 2), dtype=np.uint8), FORMATS[2], 6, 5, 2)
    assert matrix.nbytes == 6 * 5 * (32 + 4 + 4)


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda f: f.name)
def test_missing_rows_are_ignored(rng: np.random.Generator, weight_format: Format) -> None:
    """Only the rows that exist are unpacked; what lies in the place of the others does not matter."""
    whole = random_weights(rng, weight_format, 8, 3, (0, 31))
    image = np.frombuffer(pack(whole, 4), dtype=np.uint8)
    assert unpack(image, weight_format, 5, 3, 4).codes.shape == (3, 5, 32)
    assert np.array_equal(unpack(image, weight_format, 5, 3, 4).codes, unpack(image, weight_format, 8, 3, 4).codes[:, :5])
