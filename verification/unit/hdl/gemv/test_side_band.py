import numpy as np
import pytest

from tailrace.hdl.gemv.side_band import SideBand

from ..simulate import simulate
from . import bench


@pytest.mark.parametrize("has_minimum", [0, 1])
def test_blocks_pass_by(has_minimum: int, rng: np.random.Generator) -> None:
    dut = SideBand()
    per_scale_beat = 4 if has_minimum else 8

    async def drive(ctx: bench.Context) -> None:
        ctx.set(dut.has_minimum, has_minimum)
        scales: list[int] = []
        highs: list[int] = []
        for n in range(40):
            if n % per_scale_beat == 0:
                scales = [int(x) for x in rng.integers(0, 1 << 16, 8)]
                await load(ctx, dut.load_scale, sum(x << 16 * k for k, x in enumerate(scales)))
            if n % 4 == 0:
                highs = [int(x) for x in rng.integers(0, 1 << 32, 4)]
                await load(ctx, dut.load_high, sum(x << 32 * k for k, x in enumerate(highs)))
            if has_minimum:
                assert (ctx.get(dut.scale), ctx.get(dut.minimum)) == (scales[2 * (n % 4)], scales[2 * (n % 4) + 1])
            else:
                assert ctx.get(dut.scale) == scales[n % 8]
            assert ctx.get(dut.high) == highs[n % 4]
            # The beat that completes the block, after some that do not.
            ctx.set(dut.data, int(rng.integers(1 << 62)))
            await ctx.tick().repeat(int(rng.integers(1, 3)))
            ctx.set(dut.advance, 1)
            await ctx.tick()
            ctx.set(dut.advance, 0)

    async def load(ctx: bench.Context, which: object, data: int) -> None:
        ctx.set(which, 1)
        ctx.set(dut.data, data)
        await ctx.tick()
        ctx.set(which, 0)

    simulate(dut, drive)
