from typing import Any

import numpy as np
import pytest

from tailrace.hdl.vector.code_rounding import CodeRounding
from tailrace.spec.floats import flush
from tailrace.spec.kv_cache import codes_of

from ..float import operands
from ..float.operands import Bits
from ..simulate import simulate


def check(words: Bits, rng: np.random.Generator) -> None:
    """Words, each of several elements, become codes as many enabled cycles later."""
    dut = CodeRounding(words.shape[1])
    expected = codes_of(flush(operands.floats(words)))

    async def drive(ctx: Any) -> None:
        sent = 0
        while sent < len(words) + dut.latency:
            enable = rng.random() < 0.8
            ctx.set(dut.enable, enable)
            word = words[sent % len(words)] if enable else operands.anything(rng, words.shape[1])
            for n, element in enumerate(word):
                ctx.set(dut.elements[n], int(element))
            done = sent - dut.latency
            if done >= 0:
                got = [ctx.get(code) for code in dut.codes]
                assert got == expected[done].tolist(), [f"{x:#010x}" for x in words[done]]
            sent += enable
            await ctx.tick()

    simulate(dut, drive)


@pytest.mark.parametrize("word_elements", [1, 2])
def test_anything(rng: np.random.Generator, word_elements: int) -> None:
    check(operands.anything(rng, 400).reshape(-1, word_elements), rng)


def test_corners(rng: np.random.Generator) -> None:
    check(operands.signed_corners()[:, None], rng)


def test_every_code_and_what_is_around_the_ties(rng: np.random.Generator) -> None:
    halves = np.arange(-260, 261).astype(np.float32) / np.float32(2)
    around = [np.nextafter(halves, np.float32(edge)) for edge in (-np.inf, np.inf)]
    check(operands.bits(np.concatenate([halves, *around]))[:, None], rng)


def test_numbers_of_the_range_of_codes(rng: np.random.Generator) -> None:
    check(operands.near(rng, 3000, 124, 136)[:, None], rng)
