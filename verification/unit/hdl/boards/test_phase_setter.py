"""Slips and delays of byte lanes."""

import random
from typing import Any

import pytest

from tailrace.hdl.boards.phase_setter import PhaseSetter
from verification.unit.hdl.simulate import simulate

from .ddr3_model import PHASES, Ddr3Model


@pytest.mark.parametrize("stalls", [False, True])
def test_each_lane_gets_what_it_is_given(stalls: bool, seed: int) -> None:
    """From whatever it has, which is anything, and the others keep theirs."""
    dut = PhaseSetter(PHASES)
    chance = random.Random(seed)
    model = Ddr3Model(dut, lambda *_: True, chance if stalls else None)
    cases = [(1, 0, 0), (2, 3, 7), (3, 1, 0), (1, 3, 7), (3, 0, 5)]
    cases += [(chance.randrange(1, 4), chance.randrange(4), chance.randrange(8)) for _ in range(6)]

    async def user(ctx: Any) -> None:
        expected = list(zip(model.slips, model.delays, strict=True))
        for lanes, slip, delay in cases:
            ctx.set(dut.lanes, lanes)
            ctx.set(dut.slip, slip)
            ctx.set(dut.delay, delay)
            assert ctx.get(dut.done)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            assert not ctx.get(dut.done)
            await ctx.tick().until(dut.done)
            expected = [(slip, delay) if lanes >> lane & 1 else had for lane, had in enumerate(expected)]
            assert list(zip(model.slips, model.delays, strict=True)) == expected, f"seed {seed}"
            assert model.selected == 0

    simulate(dut, user, background=[model.registers])
