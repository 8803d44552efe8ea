import numpy as np

from tailrace.hdl.gemv.dot_product import DotProduct
from tailrace.hdl.gemv.traits import CODE_BITS

from ..simulate import simulate
from . import bench


def test_half_sums(rng: np.random.Generator) -> None:
    dut = DotProduct()
    low, top = -(1 << (CODE_BITS - 1)), (1 << (CODE_BITS - 1)) - 1
    blocks = [([code] * 32, [x] * 32) for x in (-32768, 32767, -1, 0) for code in (low, top)]
    blocks += [([0] * j + [top] + [0] * (31 - j), rng.integers(-32768, 32768, 32).tolist()) for j in range(32)]
    blocks += [(rng.integers(low, top + 1, 32).tolist(), rng.integers(-32768, 32768, 32).tolist()) for _ in range(40)]
    # Gaps, in which the inputs are anything.
    sent = [(*block, rng.random() < 0.7) for block in blocks]

    async def drive(ctx: bench.Context) -> None:
        held = None
        for n in range(len(sent) + dut.latency):
            if n >= dut.latency:
                codes, mantissas, valid = sent[n - dut.latency]
                products = [c * x for c, x in zip(codes, mantissas, strict=True)]
                assert ctx.get(dut.sums_valid) == valid
                held = [sum(products[:16]), sum(products[16:])] if valid else held
                if held is not None:
                    assert [ctx.get(dut.sums[half]) for half in range(2)] == held, n
            else:
                assert not ctx.get(dut.sums_valid)
            codes, mantissas, valid = sent[n] if n < len(sent) else ([0] * 32, [0] * 32, False)
            ctx.set(dut.codes, codes)
            ctx.set(dut.mantissas, mantissas)
            ctx.set(dut.valid, valid)
            await ctx.tick()

    simulate(dut, drive)
