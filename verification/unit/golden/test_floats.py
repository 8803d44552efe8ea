"""The fast arithmetic has the bits of `tailrace.spec.floats`, also where numpy's own has others."""

import numpy as np
import pytest

from tailrace.golden import floats as golden
from tailrace.spec import floats

SPECIAL = np.array(
    [0, 0x8000_0000, 1, 0x8000_0001, 0x007F_FFFF, 0x0080_0000, 0x8080_0001, 0x7F7F_FFFF, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0001],
    dtype=np.uint32,
)


def bits(x: np.ndarray) -> list[int]:
    return np.asarray(x, dtype=np.float32).view(np.uint32).reshape(-1).tolist()


def operands(rng: np.random.Generator, count: int, kind: str) -> np.ndarray:
    if kind == "usual":
        x = rng.standard_normal(count).astype(np.float32)
    elif kind == "near underflow":
        x = (rng.standard_normal(count) * 2.0 ** rng.integers(-70, -60, count)).astype(np.float32)
    else:
        x = rng.choice([*SPECIAL, *rng.integers(0, 1 << 32, 20, dtype=np.uint32)], count).astype(np.uint32).view(np.float32)
    return golden.canonical(x)


@pytest.mark.parametrize("kind", ["usual", "near underflow", "any"])
def test_products_and_sums(rng: np.random.Generator, kind: str) -> None:
    with np.errstate(all="ignore"):
        for _ in range(50):
            a, b = (operands(rng, 60, kind).reshape(4, 15) for _ in range(2))
            assert bits(golden.multiply(a, b)) == bits(floats.multiply(a, b))
            assert bits(golden.add(a, b)) == bits(floats.add(a, b))
            assert bits(golden.multiply(a, b[:, :1])) == bits(floats.multiply(a, b[:, :1]))
            assert bits(golden.negative(a)) == bits(floats.flush(-a))


def test_a_product_that_rounds_up_to_the_smallest_normal_number_is_zero() -> None:
    a, b = np.array([[0x3F7F_FFFF]], dtype=np.uint32).view(np.float32), np.array([[2.0**-126]], dtype=np.float32)
    assert (a * b)[0, 0] == b[0, 0] * (1 - 2.0**-24) or (a * b)[0, 0] > 0
    assert bits(golden.multiply(a, b)) == bits(floats.multiply(a, b)) == [0]


def test_canonical() -> None:
    with np.errstate(all="ignore"):
        assert bits(golden.canonical(SPECIAL.view(np.float32))) == bits(floats.flush(SPECIAL.view(np.float32)))
    assert bits(golden.canonical(np.zeros((1, 0), dtype=np.float32))) == []


@pytest.mark.parametrize("kind", ["usual", "near underflow", "any"])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 100, 1000])
def test_total(rng: np.random.Generator, kind: str, count: int) -> None:
    x = operands(rng, 3 * count, kind).reshape(3, count)
    if kind == "near underflow":
        x = golden.multiply(x, np.full((1, 1), 2.0**-60, dtype=np.float32))
    with np.errstate(all="ignore"):
        assert bits(golden.total(x)) == [bits(floats.total(row))[0] for row in x]


def test_total_with_a_subnormal_on_the_way() -> None:
    """A partial sum that numpy would keep and the device drops."""
    x = np.zeros((1, 96), dtype=np.float32)
    x[0, ::32] = [2.0**-126, -1.5 * 2.0**-126, 2.0**-125]
    assert golden.total(x)[0] == floats.total(x[0]) == np.float32(2.0**-125)
    assert x.astype(np.float64).sum() != 2.0**-125


@pytest.mark.parametrize("function", floats.Function)
def test_functions_of_matrices(rng: np.random.Generator, function: floats.Function) -> None:
    x = operands(rng, 300, "usual").reshape(3, 100) * np.float32(4)
    assert bits(golden.apply(function, x)) == bits(floats.apply(function, x.reshape(-1)))
