import numpy as np
import pytest

from tailrace.hdl.float.function import FunctionUnit
from tailrace.spec import floats
from tailrace.spec.floats import Function

from . import operands
from .bench import compare, run
from .operands import Bits


def expected(function: Function, x: Bits) -> Bits:
    return operands.bits(floats.apply(function, operands.floats(x)))


def check(function: Function, x: Bits) -> None:
    compare(run(FunctionUnit(), {"x": x, "function": np.full(len(x), int(function))}), expected(function, x), x=x)


def around(values: np.ndarray) -> Bits:
    """The float32 of each value and its two neighbours, with both signs."""
    bits = operands.bits(np.asarray(values, dtype=np.float32)).astype(np.int64)
    every = np.concatenate([bits - 1, bits, bits + 1])
    every = np.unique(every[every >= 0]).astype(np.uint32)
    return np.concatenate([every, every | np.uint32(0x8000_0000)])


def segment_ends(function: Function) -> Bits:
    """Around the ends of the function's segments, and where its result leaves the range of float32."""
    n = np.arange(129)
    if function is Function.EXP:
        whole = [k * np.log(2) for k in (-127, -126, -125, -1, 0, 1, 127, 128)]
        return around(np.concatenate([n[1:] / 128 * np.log(2), np.abs(whole), [64, 128, 256]]))
    if function is Function.SIGMOID:
        return around(np.arange(1, 513, 2) / 32)
    if function is Function.HALF:
        return around(
            np.concatenate([2.0 ** np.arange(-28, 18), [65504, 65519, 65520, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 5 * 2.0**-25]])
        )
    octave = around(1 + n / 128)
    return np.concatenate([octave, (octave & np.uint32(0x007F_FFFF)) | np.uint32(0x4000_0000)])


@pytest.mark.parametrize("function", list(Function), ids=lambda f: f.name.lower())
def test_equals_the_specification(function: Function, rng: np.random.Generator) -> None:
    low, high = {Function.EXP: (100, 135), Function.SIGMOID: (100, 132), Function.HALF: (98, 145)}.get(function, (1, 254))
    check(
        function,
        np.concatenate(
            [
                operands.signed_corners(),
                segment_ends(function),
                operands.anything(rng, 300),
                operands.near(rng, 1200, low, high),
            ]
        ),
    )


def test_ties_of_half(rng: np.random.Generator) -> None:
    exponent = rng.integers(101, 143, 600, dtype=np.uint32)
    # The rounding bit, and every subset of what decides a tie beside it.
    place = np.where(exponent < 113, 12 + 113 - exponent, 12).astype(np.uint32)
    fraction = (rng.integers(0, 1 << 23, 600, dtype=np.uint32) | np.uint32(1)) << place & np.uint32(0x7F_FFFF)
    below = np.array([0, 1, 2, 4, 8], np.uint32)[np.arange(600) % 5]
    check(Function.HALF, exponent << np.uint32(23) | fraction | below)


def test_functions_mixed_with_gaps(rng: np.random.Generator) -> None:
    x = operands.near(rng, 800, 110, 135)
    function = rng.integers(0, len(Function), len(x))
    every = np.stack([expected(f, x) for f in Function])
    compare(
        run(FunctionUnit(), {"x": x, "function": function}, rng=rng), every[function, np.arange(len(x))], x=x, function=function
    )
