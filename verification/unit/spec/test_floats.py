"""Float32 arithmetic of the vector unit against float64, Python's fractions, and the rules for what is not a normal number."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.spec import floats
from tailrace.spec.floats import SEGMENT_BITS, SEGMENTS, TABLE, Floats, Function
from tailrace.spec.numerics import round_to_float32

INF = np.float32(np.inf)
SMALLEST_NORMAL = 2.0**-126
any_bits = st.integers(0, 2**32 - 1)


def of(*bits: int) -> Floats:
    return np.array(bits, dtype=np.uint32).view(np.float32)


def bits(x: Floats) -> list[int]:
    return [int(b) for b in np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)]


def exactly(x: np.float32) -> Fraction:
    return Fraction(float(x))


def rounded(x: Fraction) -> int:
    """Bits of the nearest float32, by the definition for dot products: exact, in integers."""
    denominator = x.denominator.bit_length() - 1
    assert x.denominator == 1 << denominator
    return round_to_float32(x.numerator, -denominator)


def test_flush() -> None:
    x = of(
        0, 1, 0x7F_FFFF, 0x80_0000, 0x8000_0000, 0x8000_0001, 0x807F_FFFF, 0x8080_0000, 0x7F80_0000, 0x7FC0_0000, 0xFF80_0001
    )
    assert bits(floats.flush(x)) == [0, 0, 0, 0x80_0000, 0, 0, 0, 0x8080_0000, 0x7F80_0000, 0x7F80_0000, 0xFF80_0000]


@given(any_bits, any_bits)
def test_product_and_sum_are_exact_and_rounded_once(a: int, b: int) -> None:
    x, y = floats.flush(of(a))[0], floats.flush(of(b))[0]
    if np.isfinite(x) and np.isfinite(y):
        assert bits(floats.multiply(of(a), of(b))) == [rounded(exactly(x) * exactly(y))]
        assert bits(floats.add(of(a), of(b))) == [rounded(exactly(x) + exactly(y))]
    else:
        assert np.isinf(floats.multiply(of(a), of(b))).all()
        assert np.isinf(floats.add(of(a), of(b))).all()


@given(st.integers(0x0080_0000, 0x02FF_FFFF), st.integers(0x0080_0000, 0x02FF_FFFF))
def test_differences_that_are_subnormal_are_zero(a: int, b: int) -> None:
    exact = exactly(of(a)[0]) - exactly(of(b)[0])
    expected = rounded(exact) if abs(exact) >= Fraction(1, 2**126) else 0
    assert bits(floats.add(of(a), of(b | 1 << 31))) == [expected]


def test_what_rounds_up_to_the_smallest_normal_is_zero() -> None:
    assert bits(floats.multiply(of(0x0080_0001), of(0x3F7F_FFFE))) == [0]
    assert bits(floats.multiply(of(0x0080_0000), of(0x3F80_0000))) == [0x0080_0000]


def test_infinities() -> None:
    one, minus, zero = np.float32([1]), np.float32([-1]), np.float32([-0.0])
    infinite = np.array([INF])
    assert floats.multiply(infinite, minus) == -INF
    assert floats.multiply(-infinite, minus) == INF
    # No NaN; and a zero is positive.
    assert floats.multiply(infinite, zero) == INF
    assert floats.add(infinite, minus) == INF
    assert floats.add(one, -infinite) == -INF
    assert floats.add(infinite, -infinite) == INF
    assert floats.add(-infinite, infinite) == -INF
    assert floats.add(of(0x7F7F_FFFF), of(0x7F7F_FFFF)) == INF
    assert floats.multiply(of(0xFF7F_FFFF), of(0x3F80_0001)) == -INF


def test_lesser() -> None:
    ordered = np.array([-INF, -1e38, -1.0, -(2.0**-126), 0.0, 2.0**-126, 1.0, 1e38, INF], dtype=np.float32)
    for i, low in enumerate(ordered):
        for high in ordered[i:]:
            assert bits(floats.lesser(np.array([low]), np.array([high]))) == bits(np.array([low]))
            assert bits(floats.lesser(np.array([high]), np.array([low]))) == bits(np.array([low]))
    # Operands are flushed: zeros are alike, and a NaN is infinite.
    assert bits(floats.lesser(of(0x8000_0000), of(0x807F_FFFF))) == [0]
    assert bits(floats.lesser(of(0x7FC0_0000), of(0x3F80_0000))) == [0x3F80_0000]
    assert bits(floats.lesser(of(0xFFC0_0000), of(0x3F80_0000))) == [0xFF80_0000]


def ulp(x: np.ndarray) -> np.ndarray:
    """Unit of the last place of a float32 of this size."""
    return np.exp2(np.floor(np.log2(np.abs(x))) - 23)


@pytest.mark.parametrize(
    ("function", "low", "high", "reference"),
    [
        (Function.EXP, -1, 1, np.exp),
        (Function.RECIPROCAL, 2.0**-30, 2.0**30, np.reciprocal),
        (Function.RECIPROCAL_SQUARE_ROOT, 2.0**-30, 2.0**30, lambda x: 1 / np.sqrt(x)),
    ],
    ids=["exp", "reciprocal", "reciprocal_square_root"],
)
def test_error_of_a_function(
    function: Function, low: float, high: float, reference: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator
) -> None:
    x = (np.exp2(rng.uniform(np.log2(low), np.log2(high), 100_000)) if low > 0 else rng.uniform(low, high, 100_000)).astype(
        np.float32
    )
    exact = reference(x.astype(np.float64))
    assert (np.abs(floats.apply(function, x) - exact) / ulp(exact)).max() < 2


def test_error_of_exp_everywhere(rng: np.random.Generator) -> None:
    # The operand is used in steps of 2**-24, and so is its product with log2(e): that, and two units of the last place.
    x = rng.uniform(-87.3, 88.7, 100_000).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(floats.exp(x) - exact) / exact).max() < 2.0**-22 + 2.0**-23


def test_error_of_sigmoid(rng: np.random.Generator) -> None:
    x = rng.uniform(-20, 20, 100_000).astype(np.float32)
    assert np.abs(floats.sigmoid(x) - 1 / (1 + np.exp(-x.astype(np.float64)))).max() < 2.0**-23
    assert bits(floats.sigmoid(np.float32([16, 1e30, np.inf, -16, -1e30, -np.inf, 0]))) == [0x3F80_0000] * 3 + [0] * 3 + [
        0x3F00_0000
    ]


def test_limits_of_exp() -> None:
    assert bits(floats.exp(np.float32([0, -0.0, 1e-40, 100, np.inf, 1e38, -100, -np.inf, -1e38]))) == (
        [0x3F80_0000] * 3 + [0x7F80_0000] * 3 + [0] * 3
    )
    # Nothing between 0 and the smallest normal number.
    x = np.linspace(-88, -87, 1000).astype(np.float32)
    result = floats.exp(x)
    assert ((result == 0) | (result >= SMALLEST_NORMAL)).all()
    assert (result[x < -87.4] == 0).all()


def test_limits_of_reciprocals() -> None:
    nothing = np.float32([0, -0.0, 1e-40, np.inf, -np.inf])
    assert bits(floats.reciprocal(nothing)) == [0] * 5
    assert bits(floats.reciprocal_square_root(nothing)) == [0] * 5
    powers = np.exp2(np.arange(-126, 127)).astype(np.float32)
    assert (floats.reciprocal(powers) == 1 / powers.astype(np.float64)).all()
    assert (floats.reciprocal(-powers) == -1 / powers.astype(np.float64)).all()
    # 2**-127 is no normal number.
    assert floats.reciprocal(np.float32([2.0**127])) == 0
    assert (floats.reciprocal_square_root(powers[::2]) == 1 / np.sqrt(powers[::2].astype(np.float64))).all()
    assert (floats.reciprocal_square_root(-powers) == floats.reciprocal_square_root(powers)).all()


def test_half(rng: np.random.Generator) -> None:
    x = (rng.standard_normal(20_000) * np.exp2(rng.uniform(-26, 16, 20_000))).astype(np.float32)
    expected = np.clip(x, -65504, 65504).astype(np.float16).astype(np.float32)
    assert bits(floats.half(x)) == bits(expected + np.float32(0))
    assert floats.half(np.float32([65519, 1e30, -np.inf])).tolist() == [65504, 65504, -65504]
    # Ties go to the even neighbour; half of the smallest subnormal is a tie.
    assert floats.half(np.float32([1 + 2.0**-11, 1 + 3 * 2.0**-11, 2.0**-25, 3 * 2.0**-25])).tolist() == [
        1,
        1 + 2.0**-9,
        0,
        2.0**-23,
    ]


def test_parabolas_meet_at_the_ends_of_segments() -> None:
    for function, (first, count) in SEGMENTS.items():
        rows = TABLE[first : first + count]
        ends = rows.sum(axis=1)
        same = np.arange(count - 1) % 128 != 127 if function is Function.RECIPROCAL_SQUARE_ROOT else slice(None)
        assert np.abs(ends[:-1] - rows[1:, 0])[same].max() <= 2, function


def test_polynomial_stays_in_31_bits() -> None:
    """For all positions that matter: the ends and extremes of each segment's parabola lie among these."""
    d = np.unique(np.concatenate([np.arange(0, 1 << SEGMENT_BITS, 997), [(1 << SEGMENT_BITS) - 1]]))
    c0, c1, c2 = TABLE.T[:, :, None]
    value = c0 + (c1 * d >> SEGMENT_BITS) + (c2 * (d * d >> SEGMENT_BITS) >> SEGMENT_BITS)
    assert value.min() >= 0
    assert value.max() < 1 << 31
    first, count = SEGMENTS[Function.SIGMOID]
    assert value[first : first + count].max() <= 1 << 30


def test_order_of_a_total(rng: np.random.Generator) -> None:
    for count in (1, 2, 31, 32, 33, 100):
        x = (rng.standard_normal(count) * np.exp2(rng.integers(-12, 12, count))).astype(np.float32)
        partial = [np.float32(0)] * 32
        for i, element in enumerate(x):
            partial[i % 32] = np.float32(partial[i % 32] + element)
        while len(partial) > 1:
            half = len(partial) // 2
            partial = [np.float32(partial[i] + partial[i + half]) for i in range(half)]
        assert floats.total(x) == partial[0]
    # The order shows: 1e8 cancels before the ones are added, because they meet in partial sum 0.
    x = np.zeros(64, np.float32)
    x[[0, 1, 32]] = 1e8, 1, -1e8
    assert floats.total(x) == 1
    x[[32, 16]] = 0, -1e8
    assert floats.total(x) == 1
    x[[16, 17]] = 0, -1e8
    assert floats.total(x) == 0


def test_apply_knows_every_function() -> None:
    x = np.float32([0.5, -2])
    named = [floats.flush, floats.exp, floats.sigmoid, floats.reciprocal, floats.reciprocal_square_root, floats.half]
    for function, same in zip(Function, named, strict=True):
        assert bits(floats.apply(function, x)) == bits(same(x))
