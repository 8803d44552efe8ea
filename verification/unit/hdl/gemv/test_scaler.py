from typing import Any

import numpy as np

from tailrace.hdl.gemv.scaler import Scaler
from tailrace.hdl.gemv.traits import CODE_BITS, NIBBLE_BITS, OFFSETS, SIGNED_OFFSET

from ..simulate import simulate
from . import bench

EXTREME_SCALES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFFFF]


def draw(rng: np.random.Generator) -> list[dict[str, Any]]:
    """The beats of one block, or of a gap."""
    if rng.random() < 0.2:
        return [{"valid": 0, "sum": int(rng.integers(-(1 << 20), 1 << 20)), "complete": 1, "scale": 0x3C00}]
    two = bool(rng.random() < 0.4)
    scales = [int(x) for x in (rng.choice(EXTREME_SCALES, 2) if rng.random() < 0.3 else rng.integers(0, 1 << 16, 2))]
    extreme = rng.random() < 0.1
    mantissas = np.full(32, -32768) if extreme else rng.integers(-32768, 32768, 32)
    shared = {
        "valid": 1,
        "has_minimum": int(rng.random() < 0.5),
        "total": int(mantissas.sum()),
        "exponent": 31 if extreme else int(rng.integers(0, 32)),
        "scale": scales[0],
        "minimum": scales[1],
    }
    beats = []
    for lower in range(1 + two):
        largest = (1 << (NIBBLE_BITS if two else CODE_BITS)) - 1
        codes = np.full(32, largest) if extreme else rng.integers(0, largest + 1, 32)
        # Upper nibbles are signed.
        offset = OFFSETS.index(SIGNED_OFFSET) if two and not lower else int(rng.integers(len(OFFSETS)))
        beats.append(
            shared
            | {
                "sum": int((codes * mantissas).sum()),
                "offset": offset,
                "lower": lower,
                "complete": int(lower == two),
            }
        )
    return beats


def term(beats: list[dict[str, Any]]) -> int:
    total = 0
    for beat in beats:
        total = 16 * total + beat["sum"] - OFFSETS[beat["offset"]] * beat["total"]
    significand, position = bench.float16_parts(beat["scale"])
    result = total * significand << (position + beat["exponent"])
    if beat["has_minimum"]:
        significand, position = bench.float16_parts(beat["minimum"])
        result += beat["total"] * significand << (position + beat["exponent"])
    return result


def test_terms(rng: np.random.Generator) -> None:
    dut = Scaler()
    blocks = [draw(rng) for _ in range(300)]
    sent = [beat for beats in blocks for beat in beats]
    expected = [None if n + 1 < len(b) or not b[0]["valid"] else term(b) for b in blocks for n in range(len(b))]

    async def drive(ctx: bench.Context) -> None:
        for n in range(len(sent) + dut.latency):
            if n >= dut.latency:
                wanted = expected[n - dut.latency]
                assert ctx.get(dut.term_valid) == (wanted is not None)
                if wanted is not None:
                    assert ctx.get(dut.term) == wanted, sent[n - dut.latency]
            for name, value in (sent[n] if n < len(sent) else {"valid": 0}).items():
                ctx.set(getattr(dut, name), value)
            await ctx.tick()

    simulate(dut, drive)
