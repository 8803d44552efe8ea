import numpy as np
import pytest

from tailrace.hdl.gemv.accumulator import Accumulator
from tailrace.hdl.gemv.scaler import TERM_BITS
from tailrace.spec.numerics import ACCUMULATOR_BITS, ACCUMULATOR_BLOCKS

from ..simulate import simulate
from . import bench


def test_sums_are_exact(rng: np.random.Generator) -> None:
    width = TERM_BITS
    dut = Accumulator(width)

    async def drive(ctx: bench.Context) -> None:
        total = None
        # A row of the largest terms, as long as a row may be.
        rows = [[-(1 << (width - 1))] * ACCUMULATOR_BLOCKS]
        rows += [[int(x) << int(s) for x, s in rng.integers(-32, 32, (n, 2)) if s >= 0] or [0] for n in rng.integers(1, 20, 20)]
        for row in rows:
            for n, term in enumerate(row):
                while rng.random() < 0.2:
                    ctx.set(dut.valid, 0)
                    ctx.set(dut.term, int(rng.integers(-(1 << 60), 1 << 60)))
                    ctx.set(dut.first, int(rng.integers(2)))
                    await ctx.tick()
                    assert total is None or ctx.get(dut.sum) == total
                ctx.set(dut.valid, 1)
                ctx.set(dut.term, term)
                ctx.set(dut.first, n == 0)
                total = term if n == 0 else total + term  # type: ignore[operator]
                await ctx.tick()
                assert dut.latency == 1
                assert ctx.get(dut.sum) == total

    simulate(dut, drive)


@pytest.mark.parametrize("width", [0, ACCUMULATOR_BITS + 1])
def test_width_out_of_range(width: int) -> None:
    with pytest.raises(ValueError, match=f"^width must be between 1 and 120, not {width}$"):
        Accumulator(width)
