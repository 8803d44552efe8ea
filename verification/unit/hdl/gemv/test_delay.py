import pytest
from amaranth.hdl import Module, ResetInserter, Signal, signed

from tailrace.hdl.gemv.delay import delayed

from ..simulate import simulate
from . import bench


@pytest.mark.parametrize("cycles", [0, 1, 4])
def test_value_comes_so_many_cycles_later(cycles: int) -> None:
    m = Module()
    value = Signal(signed(8))
    later = delayed(m, value, cycles, name="later")
    m.d.sync += Signal().eq(0)
    assert later.shape() == signed(8)

    async def drive(ctx: bench.Context) -> None:
        sent = [3, -7, 0, 127, -128, 5, 1, 1, 2]
        for n, x in enumerate(sent):
            ctx.set(value, x)
            if n >= cycles:
                assert ctx.get(later) == sent[n - cycles]
            await ctx.tick()

    simulate(m, drive)


@pytest.mark.parametrize("reset", [False, True])
def test_reset_is_for_valid_bits_only(reset: bool) -> None:
    m = Module()
    value, rst = Signal(4), Signal()
    later = delayed(m, value, 1, name="later", reset=reset)

    async def drive(ctx: bench.Context) -> None:
        ctx.set(value, 9)
        ctx.set(rst, 1)
        await ctx.tick()
        assert ctx.get(later) == (0 if reset else 9)

    simulate(ResetInserter(rst)(m), drive)
