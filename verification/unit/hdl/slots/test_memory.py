import random
from typing import Any

import pytest

from tailrace.hdl.slots.memory import VectorMemory

from ..simulate import simulate
from .bench import config


@pytest.mark.parametrize("right_hand_sides", [1, 2, 4])
@pytest.mark.parametrize("bus_width", [128, 256, 512])
@pytest.mark.parametrize("seed", [1])
def test_against_a_model(bus_width: int, right_hand_sides: int, seed: int) -> None:
    """All three write groups and the read port at once, in few blocks, so that what is read was written before; never in the same cycle."""
    settings = config(bus_width, right_hand_sides)
    dut = VectorMemory(settings)
    rng = random.Random(seed)
    parts = 512 // bus_width
    blocks = [0, 1, 2, settings.vector_blocks - 1]
    mantissas = {(s, b): [0] * parts for s in range(right_hand_sides) for b in blocks}
    summaries = {(s, b): (0, [0, 0]) for s in range(right_hand_sides) for b in blocks}
    bases = [[0] * 4 for _ in range(right_hand_sides)]

    async def testbench(ctx: Any) -> None:
        shown = [[0] * parts for _ in range(right_hand_sides)]
        shown_summary = [(0, 0)] * right_hand_sides
        shown_base = [0] * right_hand_sides
        beat, commit, base = dut.write.beat, dut.write.commit, dut.write.base
        for cycle in range(200):
            read = rng.choice(blocks)
            others = [block for block in blocks if block != read]
            read_set = rng.randrange(4)
            ctx.set(dut.vector_block, read)
            ctx.set(dut.set, read_set)
            for group in (beat, commit, base):
                ctx.set(group.enable, rng.random() < 0.6)
                ctx.set(group.slot, rng.randrange(right_hand_sides))
            for group in (beat, commit):
                ctx.set(group.block, rng.choice(others))
            part, value = rng.randrange(parts), rng.getrandbits(bus_width)
            exponent, new_base = rng.randint(-141, 114), rng.randint(-172, 83)
            totals = [rng.randint(-(1 << 19), (1 << 19) - 1) for _ in range(2)]
            ctx.set(beat.part, part)
            ctx.set(beat.data, value)
            ctx.set(commit.exponent, exponent)
            ctx.set(commit.totals, totals)
            ctx.set(base.base, new_base)
            ctx.set(base.set, rng.randrange(4))
            writes = ctx.get(beat.enable) and (ctx.get(beat.slot), ctx.get(beat.block), part)
            commits = ctx.get(commit.enable) and (ctx.get(commit.slot), ctx.get(commit.block))
            for slot in range(right_hand_sides):
                for n in range(parts):
                    shown[slot][n] = mantissas[slot, read][n]
                shown_summary[slot] = summaries[slot, read]
                shown_base[slot] = bases[slot][read_set]
            if writes:
                mantissas[writes[:2]][part] = value
            if commits:
                summaries[commits] = (exponent, totals)
            if ctx.get(base.enable):
                bases[ctx.get(base.slot)][ctx.get(base.set)] = new_base
            await ctx.tick().repeat(VectorMemory.latency)
            for slot in range(right_hand_sides):
                vector, where = dut.vector[slot], f"seed {seed}, cycle {cycle}, slot {slot}"
                whole = sum(value << bus_width * n for n, value in enumerate(shown[slot]))
                assert ctx.get(vector.mantissas.as_value()) == whole, where
                absolute, block_totals = shown_summary[slot]
                distance = absolute - shown_base[slot]
                assert [ctx.get(total) for total in vector.totals] == block_totals, where
                assert ctx.get(vector.zero) == (distance < 0), where
                assert ctx.get(vector.exponent) == distance % 32, where
                assert [ctx.get(dut.bases[slot][n]) for n in range(4)] == bases[slot], where

    simulate(dut, testbench)
