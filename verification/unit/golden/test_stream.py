"""Unpacking a stream gives back what was packed, for every format, shape and number of lanes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.golden.stream import unpack
from tailrace.spec.formats import FORMATS, Format
from verification.unit.golden.packing import pack, random_weights
from verification.unit.golden.reference import block_codes, scales_and_minima


@given(st.sampled_from(FORMATS), st.integers(1, 40), st.integers(1, 20), st.sampled_from([1, 2, 4]), st.integers(0, 2**32 - 1))
def test_codes_scales_and_minima_come_back(weight_format: Format, rows: int, blocks: int, lanes: int, seed: int) -> None:
    blocks = -(-blocks // weight_format.row_blocks) * weight_format.row_blocks
    weights = random_weights(np.random.default_rng(seed), weight_format, rows, blocks, (0, 31))
    image = pack(weights, lanes)
    assert len(image) == weight_format.matrix_bytes(rows, blocks, lanes)
    matrix = unpack(np.frombuffer(image, dtype=np.uint8), weight_format, rows, blocks, lanes)
    pieces, _, elements = matrix.codes.shape
    assert pieces * elements == 32 * blocks * weight_format.planes
    blocks *= weight_format.planes
    places = [(row, block) for row in range(rows) for block in range(blocks)]
    codes = matrix.codes.transpose(1, 0, 2).reshape(rows, blocks, 32)
    assert codes.tolist() == [[block_codes(weights, row, block) for block in range(blocks)] for row in range(rows)]
    assert np.abs(codes.astype(int)).max() <= matrix.code_limit

    def of_each(values: np.ndarray) -> np.ndarray:
        return np.repeat(values.T, elements, axis=1).reshape(rows, blocks, 32)

    scales = of_each(matrix.scales)
    assert all(scales[place].tolist() == scales_and_minima(weights, *place)[0] for place in places)
    assert np.array_equal(matrix.largest_scales, np.abs(matrix.scales).max(axis=1))
    values = matrix.scales.reshape(-1).tolist()
    if weight_format.has_minimum:
        assert matrix.minima is not None
        minima = of_each(matrix.minima)
        assert all(minima[place].tolist() == scales_and_minima(weights, *place)[1] for place in places)
        assert np.array_equal(matrix.largest_minima, np.abs(matrix.minima).max(axis=1))
        values += matrix.minima.reshape(-1).tolist()
    else:
        assert matrix.minima is None
        assert not matrix.largest_minima.any()
    assert all(value % (1 << matrix.lowest) == 0 for value in values)


def test_bytes_of_a_matrix(rng: np.random.Generator) -> None:
    matrix = unpack(rng.integers(0, 256, FORMATS[2].matrix_bytes(6, 5, 2), dtype=np.uint8), FORMATS[2], 6, 5, 2)
    assert matrix.nbytes == 6 * 5 * (32 + 4 + 4)


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda f: f.name)
def test_missing_rows_are_ignored(rng: np.random.Generator, weight_format: Format) -> None:
    """Only the rows that exist are unpacked; what lies in the place of the others does not matter."""
    whole = random_weights(rng, weight_format, 8, 8, (0, 31))
    image = np.frombuffer(pack(whole, 4), dtype=np.uint8)
    some, all_rows = (unpack(image, weight_format, rows, 8, 4) for rows in (5, 8))
    assert some.scales.shape[1] == 5
    assert np.array_equal(some.codes, all_rows.codes[:, :5])
