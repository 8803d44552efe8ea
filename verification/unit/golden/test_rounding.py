"""The vectorised rounding is `tailrace.spec.numerics.round_to_float32`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.golden.rounding import LIMB_BITS, round_limbs
from tailrace.spec.numerics import round_to_float32

#: Limits of a limb's magnitude: what a sum of 2**13 products can reach.
LIMB = 1 << 53
limbs = st.lists(st.integers(-LIMB, LIMB), min_size=1, max_size=3)


def rounded(values: list[int], exponent: int) -> int:
    columns = np.array(values, dtype=np.float64)[:, None]
    return int(round_limbs(columns, np.array([exponent], dtype=np.int32)).item())


def total(values: list[int]) -> int:
    return sum(value << LIMB_BITS * k for k, value in enumerate(values))


@given(limbs, st.integers(-300, 200))
def test_equals_the_definition(values: list[int], exponent: int) -> None:
    assert rounded(values, exponent) == round_to_float32(total(values), exponent)


@given(st.integers(-(1 << 24), 1 << 24), st.integers(0, 64), st.integers(-2, 2), st.integers(0, 24))
def test_beside_ties(significand: int, shift: int, nudge: int, position: int) -> None:
    """Integers with 24 to 89 bits whose lower part is a half, and a little more or less."""
    value = (2 * significand + 1 << shift) + (nudge << min(position, shift))
    mask = (1 << LIMB_BITS) - 1
    for count in (2, 3):
        split = [value >> LIMB_BITS * k & mask for k in range(count - 1)] + [value >> LIMB_BITS * (count - 1)]
        assert rounded(split, -60) == round_to_float32(value, -60)
        # The same number with limbs that carry: the lower ones may have either sign, too.
        carried = [split[0] - (5 << LIMB_BITS), split[1] + 5, *split[2:]]
        assert rounded(carried, -60) == round_to_float32(value, -60)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("integer", "exponent"),
    [
        ((1 << 24) - 1, -126 - 23),  # normal
        (1 << 24, -127 - 23),  # the smallest normal number
        ((1 << 24) - 1, -126 - 24),  # just below it: zero
        ((1 << 25) - 1, -126 - 25),  # rounds up to it
        ((1 << 24) - 1, 104),  # the largest number
        ((1 << 25) - 1, 103),  # rounds up to infinity
        (1, 128),
        (1, 30000),
        (1, -30000),
        (0, 0),
    ],
)
def test_limits(sign: int, integer: int, exponent: int) -> None:
    assert rounded([sign * integer], exponent) == round_to_float32(sign * integer, exponent)
    assert rounded([sign * integer, 0, 0], exponent) == round_to_float32(sign * integer, exponent)
