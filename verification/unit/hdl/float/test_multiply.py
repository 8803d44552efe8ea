import numpy as np

from tailrace.hdl.float.multiply import FloatMultiply
from tailrace.spec import floats

from . import operands
from .bench import compare, run
from .operands import Bits


def check(a: Bits, b: Bits, rng: np.random.Generator | None = None) -> None:
    expected = operands.bits(floats.multiply(operands.floats(a), operands.floats(b)))
    compare(run(FloatMultiply(), {"a": a, "b": b}, rng=rng), expected, a=a, b=b)


def test_corners() -> None:
    check(*operands.corner_pairs())


def test_anything(rng: np.random.Generator) -> None:
    check(operands.anything(rng, 1500), operands.anything(rng, 1500))


def test_near_the_limits(rng: np.random.Generator) -> None:
    a = operands.near(rng, 2000, 1, 254)
    exponent = a >> 23 & 0xFF
    for target in (127, 381):
        other = np.clip(target - exponent.astype(np.int64) + rng.integers(-2, 3, len(a)), 1, 254).astype(np.uint32)
        b = operands.near(rng, len(a), 127, 127) & np.uint32(0x807F_FFFF) | other << np.uint32(23)
        check(a, b)


def test_what_rounds_up_to_the_smallest_normal_is_zero() -> None:
    # (1 + 2**-23) * (1 - 2**-23) = 1 - 2**-46, which rounds to 1.
    a, b = np.array([0x0080_0001, 0x3F80_0001], np.uint32), np.array([0x3F7F_FFFE, 0x3F7F_FFFE], np.uint32)
    assert run(FloatMultiply(), {"a": a, "b": b}).tolist() == [0, 0x3F80_0000]


def test_ties(rng: np.random.Generator) -> None:
    # Products of 25 bits: half of them end in a one, in the place of the rounding bit.
    a = operands.near(rng, 500, 120, 130) & np.uint32(0xFFFF_F000)
    b = operands.near(rng, 500, 120, 130) & np.uint32(0xFFFF_E000 >> 1 | 0xC000_0000)
    check(a | np.uint32(1 << 12), b | np.uint32(1 << 12))


def test_gaps(rng: np.random.Generator) -> None:
    check(operands.near(rng, 500, 100, 150), operands.near(rng, 500, 100, 150), rng)
