from typing import Any

import numpy as np
import pytest

from tailrace.hdl.gemv.maxima import Maxima
from tailrace.spec.config import Config

from ..simulate import simulate
from ..widths import ports
from . import bench

CONFIGS = [
    Config("test", **ports(128 * lanes), right_hand_sides=slots, buffer_entries=1024)
    for lanes, slots in ((1, 1), (1, 4), (2, 2), (4, 1), (4, 4), (8, 2), (16, 1))
]
#: Bits of numbers without subnormals, negative zeros and NaNs: infinities, zero, the smallest and the largest.
MINUS_INFINITY = 0xFF800000
EXTREMES = [MINUS_INFINITY, 0xFF7FFFFF, 0x80800000, 0x00000000, 0x00800000, 0x7F7FFFFF, 0x7F800000]


def numbers(rng: np.random.Generator, lanes: int) -> list[int]:
    """Results of a word, of which one in three is an extreme."""
    drawn = rng.standard_normal(lanes).astype(np.float32).view(np.uint32).tolist()
    return [int(rng.choice(EXTREMES)) if rng.random() < 0.3 else x for x in drawn]


def value(bits: int) -> float:
    return float(np.uint32(bits).view(np.float32))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.lanes}x{c.right_hand_sides}")
@pytest.mark.parametrize("gaps", [0, 0.4])
def test_results_and_maxima(config: Config, gaps: float, rng: np.random.Generator) -> None:
    """Results pass as they are, or masked; a word that is kept has the largest result of its slot since the command's first group."""
    dut, lanes = Maxima(config), config.lanes

    async def word(ctx: bench.Context, results: list[int], place: dict[str, int]) -> list[int]:
        while rng.random() < gaps:
            ctx.set(dut.valid, 0)
            ctx.set(dut.results, numbers(rng, lanes))
            assert not ctx.get(dut.write.enable)
            assert not ctx.get(dut.finished)
            await ctx.tick()
        ctx.set(dut.valid, 1)
        ctx.set(dut.results, results)
        ctx.set(dut.place, place)
        assert ctx.get(dut.write.enable)
        assert ctx.get(dut.finished) == place["final"]
        assert (ctx.get(dut.write.address), ctx.get(dut.write.mask)) == (place["address"], place["mask"])
        written = [ctx.get(dut.write.data[n]) for n in range(lanes)]
        await ctx.tick()
        ctx.set(dut.valid, 0)
        return written

    async def drive(ctx: bench.Context) -> None:
        for _ in range(30):
            slots, groups = int(rng.integers(1, config.right_hand_sides + 1)), int(rng.integers(1, 6))
            seen: list[list[int]] = [[] for _ in range(slots)]
            kept = bool(rng.integers(2))
            for group in range(groups):
                mask = (1 << int(rng.integers(1, lanes + 1))) - 1
                for slot in range(slots):
                    results = numbers(rng, lanes)
                    hidden = int(rng.integers(1 << lanes)) if config.right_hand_sides > 1 and rng.random() < 0.5 else 0
                    wanted = [MINUS_INFINITY if hidden >> n & 1 else x for n, x in enumerate(results)]
                    seen[slot] += [x for n, x in enumerate(wanted) if mask >> n & 1]
                    last = slot == slots - 1
                    place: dict[str, Any] = {"first": group == 0, "last": last, "maximum": 0, "mask": mask}
                    place["hidden"] = hidden
                    place |= {"address": int(rng.integers(1024 // lanes)), "final": last and group == groups - 1 and not kept}
                    assert await word(ctx, results, place) == wanted
            for _ in range(dut.latency - 1 if kept else 0):
                await ctx.tick()
            for slot in range(slots) if kept else ():
                last = slot == slots - 1
                place = {"first": 0, "last": last, "maximum": 1, "mask": 1, "address": 5, "final": last, "hidden": 1}
                written = await word(ctx, numbers(rng, lanes), place)
                assert value(written[0]) == max(map(value, seen[slot]))

    simulate(dut, drive)
