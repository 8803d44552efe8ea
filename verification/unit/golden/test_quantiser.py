import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tailrace.golden import quantiser
from tailrace.spec import numerics

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def check(x: np.ndarray) -> None:
    blocks = quantiser.quantise(x.reshape(-1, 32))
    base, exponents, mantissas = numerics.quantise(x)
    differences = blocks.exponents - blocks.base
    assert blocks.base == base
    assert np.array_equal(np.maximum(differences, 0), exponents)
    assert np.array_equal(np.where(differences[:, None] < 0, 0, blocks.mantissas), mantissas)


@given(arrays(np.float32, st.sampled_from([32, 96]), elements=finite))
def test_equals_the_definition(x: np.ndarray) -> None:
    check(x)


@pytest.mark.parametrize("spread", [0, 4, 40])
def test_usual_values(rng: np.random.Generator, spread: int) -> None:
    check((rng.standard_normal(3200) * 2.0 ** rng.integers(-spread, spread + 1, 3200)).astype(np.float32))


def test_infinity_counts_as_two_to_the_128() -> None:
    x = np.zeros((2, 32), dtype=np.float32)
    x[0, 0], x[0, 1], x[1, 8] = np.inf, -np.inf, 2.0**127
    blocks = quantiser.quantise(x)
    assert (blocks.base, blocks.exponents.tolist()) == (83, [83 + 31, 83 + 30])
    values = np.ldexp(blocks.mantissas.astype(float), blocks.exponents[:, None])
    assert (values[0, 0], values[0, 1], values[1, 8]) == (2.0**128, -(2.0**128), 2.0**127)


def test_zeros() -> None:
    blocks = quantiser.quantise(np.zeros((1, 32), dtype=np.float32))
    assert (blocks.base, blocks.exponents.tolist(), blocks.mantissas.any()) == (-172, [-141], False)


@pytest.mark.parametrize(("count", "duplicate", "blocks"), [(32, 0, 1), (33, 0, 2), (16, 1, 1), (17, 1, 2), (1, 1, 1)])
def test_split(rng: np.random.Generator, count: int, duplicate: int, blocks: int) -> None:
    x = rng.standard_normal((3, count)).astype(np.float32)
    pieces = quantiser.split(x, bool(duplicate))
    assert pieces.shape == (3, blocks, 32)
    if duplicate:
        assert np.array_equal(pieces[:, :, :16], pieces[:, :, 16:])
        pieces = pieces[:, :, :16]
    flat = pieces.reshape(3, -1)
    assert np.array_equal(flat[:, :count], x)
    assert not flat[:, count:].any()
