from typing import Any

import numpy as np
import pytest

from tailrace.hdl.gemv.codes import CodeDecoder
from tailrace.hdl.gemv.traits import SCALE_KINDS
from tailrace.spec.formats import CODEBOOKS, FORMATS, Format, ScaleKind

from ..simulate import simulate
from . import bench


def beats(format: Format, rng: np.random.Generator) -> list[tuple[dict[str, Any], list[int]]]:
    """Inputs and the codes expected, of blocks in which each element takes each value."""
    low, high = bench.code_range(format)
    found = []
    traits = {
        "scale_kind": SCALE_KINDS.index(format.scale_kind),
        "centred": format.code_offset != 0,
        "codebook": CODEBOOKS.index(format.codebook),
        "high_bits": format.high_bits,
    }
    for n in range(high - low):
        stored = [low + (n + 7 * j) % (high - low) for j in range(format.block_elements)]
        shared = {"traits": traits, "high": sum((c >> 4) << format.high_bits * j for j, c in enumerate(stored))}
        if not format.high_bits:
            shared["high"] = int(rng.integers(1 << 62))
        if format.scale_kind is ScaleKind.UNIT:
            data = int.from_bytes(bytes(c & 255 for c in stored), "little")
            found.append((shared | {"data": data, "upper": 0}, [c & 15 for c in stored] + [c >> 4 for c in stored]))
            continue
        for upper in ((1, 0), (0,))[format.nibble_beats == 1]:
            nibbles = [(c >> 4 if upper else c) & 15 for c in stored]
            data = sum(x << (8 * (j % 16) + 4 * (j // 16)) for j, x in enumerate(nibbles))
            if format.nibble_beats == 2:
                codes = [c >> 4 if upper else c & 15 for c in stored]
            else:
                codes = [format.codebook[c] if format.codebook else c - format.code_offset for c in stored]
            found.append((shared | {"data": data, "upper": upper}, codes))
    return found


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_every_code_of_every_element(format: Format, rng: np.random.Generator) -> None:
    dut = CodeDecoder()
    assert dut.latency == 2

    async def drive(ctx: bench.Context) -> None:
        for inputs, codes in beats(format, rng):
            for name, value in inputs.items():
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.valid, 1)
            await ctx.tick()
            ctx.set(dut.valid, 0)
            for _ in range(1 + int(rng.integers(2))):
                # Without a beat they stay.
                ctx.set(dut.data, int(rng.integers(1 << 62)))
                await ctx.tick()
            assert [ctx.get(dut.codes[j]) for j in range(32)] == codes

    simulate(dut, drive)
