from typing import Any

import numpy as np

from tailrace.hdl.vector.half_rounding import HalfRounding
from tailrace.spec import floats

from ..float import operands
from ..float.operands import Bits
from ..simulate import simulate


def check(numbers: Bits, rng: np.random.Generator) -> None:
    """Numbers become float16 as many enabled cycles later."""
    dut = HalfRounding()
    flushed = floats.flush(operands.floats(numbers))
    expected = floats.half(flushed).astype(np.float16).view(np.uint16)

    async def drive(ctx: Any) -> None:
        sent = 0
        while sent < len(numbers) + dut.latency:
            enable = rng.random() < 0.8
            ctx.set(dut.enable, enable)
            ctx.set(dut.x, int(operands.bits(flushed)[sent % len(numbers)]) if enable else int(rng.integers(1 << 32)))
            done = sent - dut.latency
            if done >= 0:
                got = ctx.get(dut.half)
                assert got == expected[done], f"{numbers[done]:#010x}: got {got:#06x}, expected {expected[done]:#06x}"
            sent += enable
            await ctx.tick()

    simulate(dut, drive)


def test_anything(rng: np.random.Generator) -> None:
    check(operands.anything(rng, 500), rng)


def test_corners(rng: np.random.Generator) -> None:
    check(operands.signed_corners(), rng)


def test_what_is_around_the_ties(rng: np.random.Generator) -> None:
    """Of subnormals and normal numbers; of the smallest and the largest of both."""
    patterns = [rng.integers(0, 0x7C00, 400), np.arange(40), 0x3FF + np.arange(40), 0x7BFF - np.arange(40)]
    kept = np.concatenate(patterns).astype(np.uint16).view(np.float16).astype(np.float32)
    step = np.maximum(np.ldexp(np.float32(1), np.frexp(kept)[1] - 11), np.float32(2**-24))
    ties = (kept + step / 2).astype(np.float32)
    around = [np.nextafter(ties, np.float32(edge)) for edge in (-np.inf, np.inf)]
    numbers = np.concatenate([kept, ties, *around])
    check(operands.bits(np.concatenate([numbers, -numbers])), rng)


def test_numbers_around_both_ends_of_the_range(rng: np.random.Generator) -> None:
    check(operands.near(rng, 2000, 98, 116), rng)
    check(operands.near(rng, 1000, 138, 146), rng)
