"""The delay line counts enabled cycles."""

import random
from typing import Any

import pytest

from tailrace.hdl.vector.delay_memory import DelayMemory

from ..simulate import simulate


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize(("cycles", "short_cycles"), [(2, 2), (3, 2), (9, 9), (20, 9)])
def test_delay(cycles: int, short_cycles: int, stalls: bool) -> None:
    seed = cycles + short_cycles
    rng = random.Random(seed)
    line = DelayMemory(16, cycles, short_cycles)

    async def drive(ctx: Any) -> None:
        for short in (0, 1, 0, 1, 1):
            ctx.set(line.short, short)
            ctx.set(line.enable, 0)
            await ctx.tick().repeat(2)
            delay = short_cycles if short else cycles
            given: list[int] = []
            while len(given) < 3 * cycles + rng.randrange(cycles):
                value, enable = rng.getrandbits(16), not stalls or rng.randrange(2)
                ctx.set(line.i, value)
                ctx.set(line.enable, enable)
                if len(given) >= delay:
                    assert ctx.get(line.o) == given[len(given) - delay], f"seed {seed}"
                await ctx.tick()
                if enable:
                    given.append(value)

    simulate(line, drive)


@pytest.mark.parametrize("cycles", [1, 0, 2.5])
def test_refuses_a_delay_that_it_can_not_have(cycles: Any) -> None:
    with pytest.raises(ValueError) as error:
        DelayMemory(8, cycles)
    assert str(error.value) == f"cycles must be a whole number of at least 2, not {cycles!r}"


@pytest.mark.parametrize("cycles", [1, 6])
def test_refuses_a_short_delay_that_is_longer(cycles: int) -> None:
    with pytest.raises(ValueError) as error:
        DelayMemory(8, 5, cycles)
    assert str(error.value) == f"short_cycles must be a whole number from 2 to 5, not {cycles}"
