from typing import Any

import numpy as np

from tailrace.hdl.gemv.scaler import Scaler

from ..simulate import simulate
from . import bench

#: Ends of the ranges of what a scaler is given.
LARGEST = {
    "sum": 1 << 24,
    "codebook sum": 127 << 19,
    "half": 12 << 19,
    "significand": 2047,
    "minimum": 2047 * 63,
    "position": 30,
    "exponent": 31,
}


def draw(rng: np.random.Generator) -> list[dict[str, Any]]:
    """The beats of one block, or of a gap."""
    if rng.random() < 0.2:
        return [{"valid": 0, "sums": rng.integers(-(1 << 20), 1 << 20, 2).tolist(), "complete": 1}]
    extreme = rng.random() < 0.15
    sign = int(rng.choice([-1, 1]))

    def number(name: str) -> int:
        largest = LARGEST[name]
        if name in ("position", "exponent"):
            return largest if extreme else int(rng.integers(largest + 1))
        return sign * largest if extreme else int(rng.integers(-largest, largest + 1))

    two = bool(rng.random() < 0.4)
    # Codes of 8 bits have smaller subscales.
    codebook = not two and bool(rng.random() < 0.4)
    # And those of 5 bits a scale for each half of a block.
    halves = not two and not codebook and bool(rng.random() < 0.4)
    shared = {
        "valid": 1,
        "has_minimum": int(halves or rng.random() < 0.5),
        "halves": int(halves),
        "totals": [-(1 << 19)] * 2 if extreme else rng.integers(-(1 << 19), 1 << 19, 2).tolist(),
        "exponent": number("exponent"),
        "zero": int(rng.random() < 0.1),
    }
    factors = {
        "scale": number("significand"),
        "scale_position": number("position"),
        "minima": [number("significand"), 0] if halves else [number("minimum") for _ in range(2)],
        "minimum_position": number("position"),
    }
    beats = []
    for lower in range(1 + two):
        subscales = [-128, -128] if extreme else rng.integers(-128, 128, 2).tolist()
        if two:
            subscales = [1, 1] if lower else [16, 16]
        elif codebook:
            subscales = [-32, -32] if extreme else rng.integers(-32, 32, 2).tolist()
        elif halves:
            subscales = [1, 0]
        sums = [number("half" if halves else "codebook sum" if codebook else "sum") for _ in range(2)]
        beats.append(
            shared
            | {"sums": sums, "factors": factors | {"subscales": subscales}, "lower": lower, "complete": int(lower == two)}
        )
    return beats


def term(beats: list[dict[str, Any]]) -> int:
    beat = beats[-1]
    if beat["zero"]:
        return 0
    total = sum(s * u for b in beats for s, u in zip(b["sums"], b["factors"]["subscales"], strict=True))
    factors = beat["factors"]
    result = total * factors["scale"] << (factors["scale_position"] + beat["exponent"])
    if beat["has_minimum"]:
        seconds = (beat["sums"][1], beat["totals"][1]) if beat["halves"] else beat["totals"]
        second = sum(s * minimum for s, minimum in zip(seconds, factors["minima"], strict=True))
        result += second << (factors["minimum_position"] + beat["exponent"])
    return int(result)


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
