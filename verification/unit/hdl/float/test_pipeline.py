import numpy as np
import pytest
from amaranth.hdl import Module, Signal

from tailrace.hdl.float.pipeline import Pipeline, Stage

from ..simulate import simulate
from .bench import Context


def test_stages_hold_what_they_have(rng: np.random.Generator) -> None:
    """Valid bits move with every enabled cycle; a stage changes only for valid values."""
    m = Module()
    enable, valid, x = Signal(), Signal(), Signal(8)
    pipeline = Pipeline(m, enable, valid)
    one = pipeline.stage(x=x)
    two = pipeline.stage(x=one.x, twice=one.x + one.x)
    assert pipeline.latency == 2
    o_valid, o, twice = Signal(), Signal(8), Signal(9)
    m.d.comb += [o_valid.eq(pipeline.valid), o.eq(two.x), twice.eq(two.twice)]

    async def drive(ctx: Context) -> None:
        held: list[tuple[bool, int]] = [(False, 0), (False, 0)]
        for _ in range(200):
            run, there, value = bool(rng.integers(2)), bool(rng.integers(2)), int(rng.integers(256))
            ctx.set(enable, run)
            ctx.set(valid, there)
            ctx.set(x, value)
            await ctx.tick()
            if run:
                (first, a), (_, b) = held
                held = [(there, value if there else a), (first, a if first else b)]
            assert (ctx.get(o_valid), ctx.get(o), ctx.get(twice)) == (held[1][0], held[1][1], 2 * held[1][1])

    simulate(m, drive)


def test_a_value_that_was_not_passed_on() -> None:
    with pytest.raises(AttributeError, match=r"^this stage does not hold 'y'$"):
        _ = Stage({"x": Signal()}).y
