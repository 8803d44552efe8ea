"""Quantisation and rounding against numpy's float64 and Python's fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tailrace.spec.numerics import (
    ACCUMULATOR_BITS,
    ACCUMULATOR_BLOCKS,
    EXPONENT_MAX,
    MANTISSA_MAX,
    dequantise,
    quantise,
    round_to_float32,
)

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = arrays(np.float32, st.sampled_from([32, 64, 160]), elements=finite)
usual = arrays(np.float32, 64, elements=st.floats(-1000, 1000, width=32))
SMALLEST_NORMAL = 2.0**-126


def flushed(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < SMALLEST_NORMAL, 0, x).astype(np.float64)


@given(vectors)
def test_ranges(x: np.ndarray) -> None:
    base, exponents, mantissas = quantise(x)
    assert -172 <= base <= 82
    assert (exponents.dtype, exponents.shape) == (np.uint8, (x.size // 32,))
    assert (mantissas.dtype, mantissas.shape) == (np.int16, (x.size // 32, 32))
    assert exponents.max() == EXPONENT_MAX
    assert np.abs(mantissas.astype(int)).max() <= MANTISSA_MAX


@given(vectors)
def test_error_is_half_a_step(x: np.ndarray) -> None:
    """Of the block's step; but for the limit of the mantissa, which costs at most one more half, and blocks below the window."""
    base, exponents, mantissas = quantise(x)
    step = np.repeat(np.ldexp(1.0, base + exponents.astype(np.int32)), 32)
    error = np.abs(dequantise(base, exponents, mantissas) - flushed(x))
    limited = np.abs(mantissas.reshape(-1)) == MANTISSA_MAX
    below = np.repeat(np.abs(flushed(x)).reshape(-1, 32).max(axis=1) < np.ldexp(1.0, base + 14), 32)
    assert (error <= np.where(below, 1 << 14, np.where(limited, 1.0, 0.5)) * step).all()


@given(vectors)
def test_the_largest_block_uses_all_its_bits(x: np.ndarray) -> None:
    assume(flushed(x).any())
    base, exponents, mantissas = quantise(x)
    largest = np.abs(mantissas.astype(int)).max(axis=1)
    assert largest[exponents == EXPONENT_MAX].max() >= 1 << 14
    # A block whose exponent is above the floor has its own largest mantissa in the upper half, too.
    used = flushed(x).reshape(-1, 32).any(axis=1)
    assert (largest[used & (exponents > 0)] >= 1 << 14).all()
    assert ((largest == 0) | (largest >= 1 << 14)).all()


@given(vectors)
def test_quantising_twice_changes_nothing(x: np.ndarray) -> None:
    first = quantise(x)
    values = dequantise(*first)
    again = values.astype(np.float32)
    assume(np.array_equal(again, values) and np.array_equal(flushed(again), values))
    assert np.array_equal(dequantise(*quantise(again)), values)


@given(usual, st.integers(-60, 60))
@example(np.array([1.643453e-17, *[0.0] * 63], dtype=np.float32), -41)
def test_powers_of_two_only_move_the_base(x: np.ndarray, shift: int) -> None:
    x = np.where(np.abs(x) < 2.0**-60, 0, x).astype(np.float32)
    assume(x.any())
    base, exponents, mantissas = quantise(x)
    moved, same_exponents, same_mantissas = quantise(np.ldexp(x, shift))
    assert moved == base + shift
    # The exponent of a block of zeros says nothing: it is as near to the smallest float32 as the base lets it be.
    some = mantissas.any(axis=-1)
    assert np.array_equal(exponents[some], same_exponents[some])
    assert np.array_equal(mantissas, same_mantissas)


@given(vectors)
def test_the_sign_is_symmetric(x: np.ndarray) -> None:
    base, exponents, mantissas = quantise(x)
    negated = quantise(-x)
    assert negated[0] == base
    assert np.array_equal(negated[1], exponents)
    assert np.array_equal(negated[2], -mantissas)


def test_small_integers_are_exact() -> None:
    x = np.arange(-16, 16, dtype=np.float32)
    assert np.array_equal(dequantise(*quantise(x)), x)


def test_zeros_and_subnormals() -> None:
    for x in (np.zeros(64, dtype=np.float32), np.full(64, 1e-40, dtype=np.float32)):
        base, exponents, mantissas = quantise(x)
        assert base == -172
        assert exponents.tolist() == [31, 31]
        assert not mantissas.any()


def test_ties_go_to_even() -> None:
    x = np.zeros(32, dtype=np.float32)
    x[0], x[1:5] = 16384, (0.5, 1.5, 2.5, -2.5)
    assert quantise(x)[2][0, :5].tolist() == [16384, 0, 2, 2, -2]


def test_a_mantissa_is_limited() -> None:
    x = np.zeros(32, dtype=np.float32)
    x[:2] = 32767.75, -32767.75
    assert quantise(x)[2][0, :2].tolist() == [32767, -32767]


def test_the_window_of_block_exponents() -> None:
    """A block 2**31 below the largest one has exponent 0; smaller ones count as zero."""
    x = np.zeros((4, 32), dtype=np.float32)
    x[:, 0] = 1, 2.0**-31, np.nextafter(np.float32(2.0**-31), np.float32(0)), 2.0**-45
    base, exponents, mantissas = quantise(x.reshape(-1))
    assert base + 31 == -14
    assert exponents.tolist() == [31, 0, 0, 0]
    assert mantissas[:, 0].tolist() == [1 << 14, 1 << 14, 0, 0]


@given(vectors)
def test_blocks_do_not_depend_on_each_other(x: np.ndarray) -> None:
    """But for the base: so a block can be quantised before the next one is known."""
    base, exponents, mantissas = quantise(x)
    for block in range(len(exponents)):
        alone, (exponent,), (mantissa,) = quantise(x[32 * block : 32 * block + 32])
        if alone + 31 >= base:
            assert alone + int(exponent) == base + int(exponents[block])
            assert np.array_equal(mantissa, mantissas[block])
        else:
            assert not mantissas[block].any()


@pytest.mark.parametrize("shape", [(0,), (31,), (33,), (2, 32)])
def test_quantise_refuses_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^a vector must have a positive multiple of 32 elements, not shape \("):
        quantise(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_quantise_refuses_what_is_not_finite(value: float) -> None:
    x = np.zeros(32, dtype=np.float32)
    x[7] = value
    with pytest.raises(ValueError, match="^a vector must be finite: it holds infinities or NaNs$"):
        quantise(x)


def float32(bits: int) -> float:
    return float(np.uint32(bits).view(np.float32))


@given(st.integers(-(1 << 53), 1 << 53), st.integers(-140, 60))
def test_rounding_equals_numpy(integer: int, exponent: int) -> None:
    """Where float64 is exact and the result is no subnormal, which numpy keeps and the device does not."""
    with np.errstate(over="ignore"):
        expected = np.float32(np.ldexp(float(integer), exponent))
    assume(expected == 0 or abs(expected) > SMALLEST_NORMAL)
    assert round_to_float32(integer, exponent) == int((expected + np.float32(0)).view(np.uint32))


@given(st.integers(-(1 << 112), 1 << 112), st.integers(-160, 0))
def test_rounding_is_nearest_even(integer: int, exponent: int) -> None:
    result = float32(round_to_float32(integer, exponent))
    assume(np.isfinite(result) and result)
    exact = Fraction(integer) * Fraction(2) ** exponent
    bits = round_to_float32(integer, exponent)
    error = abs(Fraction(result) - exact)
    for neighbour in (bits - 1, bits + 1):
        other = float32(neighbour)
        if np.isfinite(other) and abs(other) >= SMALLEST_NORMAL:
            distance = abs(Fraction(other) - exact)
            assert error < distance or (error == distance and bits % 2 == 0)


@pytest.mark.parametrize(
    ("integer", "exponent", "bits"),
    [
        (0, 0, 0),
        (1, 0, 0x3F80_0000),
        (-1, 0, 0xBF80_0000),
        ((1 << 24) + 1, 0, 0x4B80_0000),
        ((1 << 24) + 3, 0, 0x4B80_0002),
        (-((1 << 24) + 3), 0, 0xCB80_0002),
        ((1 << 100) + (1 << 76), -100, 0x3F80_0000),
        ((1 << 100) + (1 << 76) + 1, -100, 0x3F80_0001),
        (1, -126, 0x0080_0000),
        (1, -127, 0),
        (-1, -127, 0),
        ((1 << 24) - 1, -150, 0),
        ((1 << 25) - 1, -151, 0x0080_0000),
        ((1 << 24) - 1, 104, 0x7F7F_FFFF),
        ((1 << 25) - 1, 103, 0x7F80_0000),
        (-1, 128, 0xFF80_0000),
    ],
)
def test_rounding_at_the_limits(integer: int, exponent: int, bits: int) -> None:
    assert round_to_float32(integer, exponent) == bits


def test_the_accumulator_holds_the_longest_row() -> None:
    """The largest sum of `ACCUMULATOR_BLOCKS` blocks, with every operand at its limit, is below the sign bit."""
    largest_mantissa, largest_significand, largest_shift = 32768, 2047, 61
    # Code times subscale: Q8_0 in three planes; Q6_K; Q5_K with its minimum; IQ4_XS; IQ2_S16; Q4_SM16.
    for factor in (3 * 128, 32 * 128, (31 + 1) * 63, 127 * 32, 43 * 128, (15 + 1) * 15):
        block = 32 * factor * largest_mantissa * largest_significand << largest_shift
        assert ACCUMULATOR_BLOCKS * block < 1 << ACCUMULATOR_BITS - 1
