from typing import Any

import numpy as np

from tailrace.hdl.gemv.factors import Factors

from ..simulate import simulate
from . import bench


def draw(rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scales of a block, and the factors by the definition of a float16."""
    exponent_only = bool(rng.random() < 0.3)
    scale = int(rng.integers(31)) | int(rng.integers(256)) << 8 if exponent_only else int(rng.integers(1 << 16))
    minimum = int(rng.choice([0xFFFF, 0x7FFF, int(rng.integers(1 << 16))]))
    subminima = [int(rng.choice([0, 63, int(rng.integers(64))])) for _ in range(2)]
    subscales = rng.integers(-128, 128, 2).tolist()
    significand, position = (1, scale & 31) if exponent_only else bench.float16_parts(scale)
    minimum_significand, minimum_position = bench.float16_parts(minimum)
    return (
        {"scale": scale, "exponent_only": exponent_only, "subscales": subscales, "minimum": minimum, "subminima": subminima},
        {
            "subscales": subscales,
            "scale": significand,
            "scale_position": position,
            "minima": [minimum_significand * subminimum for subminimum in subminima],
            "minimum_position": minimum_position,
        },
    )


def test_factors(rng: np.random.Generator) -> None:
    dut = Factors()
    drawn = [(*draw(rng), bool(rng.random() < 0.8)) for _ in range(200)]

    async def drive(ctx: bench.Context) -> None:
        held: dict[str, Any] | None = None
        for n in range(len(drawn) + dut.latency):
            if n >= dut.latency:
                _, factors, valid = drawn[n - dut.latency]
                held = factors if valid else held
                if held:
                    pairs = ("subscales", "minima")
                    seen = {name: ctx.get(getattr(dut.factors, name)) for name in held if name not in pairs}
                    seen |= {name: [ctx.get(getattr(dut.factors, name)[half]) for half in range(2)] for name in pairs}
                    assert seen == held, n
            scales, _, valid = drawn[min(n, len(drawn) - 1)]
            ctx.set(dut.scales, scales)
            ctx.set(dut.valid, valid and n < len(drawn))
            await ctx.tick()

    simulate(dut, drive)
