import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tailrace.golden.quantiser import quantise_bits
from tailrace.spec.numerics import quantise

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays(np.float32, st.sampled_from([32, 96]), elements=finite))
def test_equals_the_definition(x: np.ndarray) -> None:
    vector = quantise_bits(x.view(np.uint32))
    base, exponents, mantissas = quantise(x)
    assert vector.base == base
    assert np.array_equal(vector.exponents, exponents)
    assert np.array_equal(vector.mantissas, mantissas)


@pytest.mark.parametrize("spread", [0, 4, 40])
def test_usual_values(rng: np.random.Generator, spread: int) -> None:
    x = (rng.standard_normal(3200) * 2.0 ** rng.integers(-spread, spread + 1, 3200)).astype(np.float32)
    vector = quantise_bits(x.view(np.uint32))
    base, exponents, mantissas = quantise(x)
    assert (vector.base, vector.exponents.tolist(), vector.mantissas.tolist()) == (base, exponents.tolist(), mantissas.tolist())


def test_infinity_counts_as_two_to_the_128() -> None:
    x = np.zeros(64, dtype=np.float32)
    x[0], x[1], x[40] = np.inf, -np.inf, 2.0**127
    vector = quantise_bits(x.view(np.uint32))
    assert vector.base == 83
    assert vector.exponents.tolist() == [31, 30]
    values = np.ldexp(vector.mantissas.astype(float), vector.base + vector.exponents.astype(int)[:, None])
    assert (values[0, 0], values[0, 1], values[1, 8]) == (2.0**128, -(2.0**128), 2.0**127)
