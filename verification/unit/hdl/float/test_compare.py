import numpy as np
from amaranth.hdl import Cat, Module, Signal

from tailrace.hdl.float.compare import exceeds, flushed, from_order, negated, order
from tailrace.spec import floats

from ..simulate import simulate
from . import operands
from .bench import Context


def test_order_sign_and_flush(rng: np.random.Generator) -> None:
    m = Module()
    a, b = Signal(32), Signal(32)
    above, back, minus, clean = Signal(), Signal(32), Signal(32), Signal(32)
    m.d.comb += [
        above.eq(exceeds(order(a), order(b))),
        back.eq(from_order(order(a))),
        minus.eq(negated(a)),
        clean.eq(flushed(a)),
    ]
    raw = np.concatenate([operands.signed_corners(), operands.anything(rng, 20)])
    x = floats.flush(operands.floats(raw))
    bits = operands.bits(x).tolist()

    async def check(ctx: Context) -> None:
        for n, one in enumerate(bits):
            ctx.set(a, int(raw[n]))
            assert ctx.get(clean) == one
            ctx.set(a, one)
            assert ctx.get(back) == one
            assert ctx.get(minus) == int((np.float32(0) - x[n]).view(np.uint32))
            for k, other in enumerate(bits):
                ctx.set(b, other)
                assert ctx.get(above) == (x[n] > x[k]), (hex(one), hex(other))

    simulate(m, check)


def test_a_number_is_never_0_in_the_order() -> None:
    m = Module()
    x, keys = Signal(32), Signal(32)
    m.d.comb += keys.eq(Cat(order(x)))

    async def check(ctx: Context) -> None:
        ctx.set(x, 0xFF80_0000)
        assert ctx.get(keys) > 0

    simulate(m, check)
