import numpy as np

from tailrace.hdl.float.add import FloatAdd
from tailrace.spec import floats

from . import operands
from .bench import compare, run
from .operands import Bits

_SIGN = np.uint32(0x8000_0000)


def check(a: Bits, b: Bits, rng: np.random.Generator | None = None, subtract: Bits | None = None) -> None:
    minus = np.zeros_like(a) if subtract is None else subtract
    expected = operands.bits(floats.add(operands.floats(a), operands.floats(b ^ minus << np.uint32(31))))
    compare(run(FloatAdd(), {"a": a, "b": b, "subtract": minus}, rng=rng), expected, a=a, b=b, subtract=minus)


def check_lesser(a: Bits, b: Bits, rng: np.random.Generator | None = None) -> None:
    expected = operands.bits(floats.lesser(operands.floats(a), operands.floats(b)))
    compare(run(FloatAdd(), {"a": a, "b": b, "lesser": np.ones_like(a)}, rng=rng), expected, a=a, b=b)


def test_the_lesser_of_corners() -> None:
    check_lesser(*operands.corner_pairs())


def test_the_lesser_of_anything(rng: np.random.Generator) -> None:
    a = operands.anything(rng, 1000)
    check_lesser(a, operands.anything(rng, 1000), rng)
    near = (a.astype(np.int64) + rng.integers(-2, 3, len(a))) & 0xFFFF_FFFF
    check_lesser(a, near.astype(np.uint32))
    check_lesser(a, a ^ _SIGN)


def test_sums_and_lesser_ones_in_turn(rng: np.random.Generator) -> None:
    a, b, choice = operands.anything(rng, 600), operands.anything(rng, 600), rng.integers(0, 2, 600, dtype=np.uint32)
    x, y = operands.floats(a), operands.floats(b)
    expected = np.where(choice == 1, operands.bits(floats.lesser(x, y)), operands.bits(floats.add(x, y)))
    compare(run(FloatAdd(), {"a": a, "b": b, "lesser": choice}, rng=rng), expected, a=a, b=b, lesser=choice)


def test_corners() -> None:
    check(*operands.corner_pairs())


def test_anything(rng: np.random.Generator) -> None:
    check(operands.anything(rng, 1000), operands.anything(rng, 1000))


def test_every_distance_of_exponents(rng: np.random.Generator) -> None:
    a = operands.near(rng, 3000, 40, 210)
    b = operands.near(rng, 3000, 127, 127) & np.uint32(0x807F_FFFF)
    exponents = (a >> 23 & 0xFF).astype(np.int64) + np.arange(3000) % 61 - 30
    check(a, b | exponents.astype(np.uint32) << np.uint32(23))


def test_cancellation(rng: np.random.Generator) -> None:
    a = np.concatenate([operands.near(rng, 600, 1, 254), operands.near(rng, 600, 1, 28)])
    near = (a.astype(np.int64) + rng.integers(-40, 41, len(a)) * (1 << rng.integers(0, 20, len(a)))) & 0xFFFF_FFFF
    check(a, near.astype(np.uint32) ^ _SIGN)
    check(a[:50], a[:50] ^ _SIGN)


def test_overflow(rng: np.random.Generator) -> None:
    check(operands.near(rng, 600, 250, 254), operands.near(rng, 600, 250, 255))


def test_ties(rng: np.random.Generator) -> None:
    # A half, and just more and less than a half, of the larger operand's last place; also where it borrows from the next place.
    a = operands.near(rng, 1200, 60, 200)
    distance = np.arange(1200) % 3 + np.uint32(23)
    fraction = np.array([0, 1, 0x7F_FFFF, 0x40_0000], np.uint32)[np.arange(1200) // 3 % 4]
    a[::5] &= np.uint32(0xFF80_0000)
    sign = rng.integers(0, 2, 1200, dtype=np.uint32) << np.uint32(31)
    check(a, sign | ((a >> 23 & 0xFF) - distance).astype(np.uint32) << np.uint32(23) | fraction)


def test_subtract_and_gaps(rng: np.random.Generator) -> None:
    a, b = operands.near(rng, 500, 120, 130), operands.near(rng, 500, 120, 130)
    check(a, b, rng, rng.integers(0, 2, 500, dtype=np.uint32))
    corners = operands.corner_pairs()
    check(corners[0][::7], corners[1][::7], None, np.ones_like(corners[0][::7]))
