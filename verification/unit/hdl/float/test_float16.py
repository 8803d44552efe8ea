import numpy as np
from amaranth.hdl import Module, Signal, signed

from tailrace.hdl.float.float16 import POSITION_MAX, SIGNED_BITS, position, signed_significand

from ..gemv import bench
from ..simulate import simulate


def test_parts(rng: np.random.Generator) -> None:
    m = Module()
    bits = Signal(16)
    part, place = Signal(signed(SIGNED_BITS)), Signal(range(POSITION_MAX + 1))
    m.d.comb += [part.eq(signed_significand(bits)), place.eq(position(bits))]
    m.d.sync += Signal().eq(0)

    async def drive(ctx: bench.Context) -> None:
        for upper in range(64):
            for fraction in [0, 1, 512, 1023, *rng.integers(0, 1024, 4)]:
                x = upper << 10 | int(fraction)
                ctx.set(bits, x)
                assert (ctx.get(part), ctx.get(place)) == bench.float16_parts(x), hex(x)
                # Where numpy's float16 has a value, it is the same one.
                if upper & 31 < 31:
                    assert np.uint16(x).view(np.float16) == ctx.get(part) * 2.0 ** (ctx.get(place) - 24)

    simulate(m, drive)
