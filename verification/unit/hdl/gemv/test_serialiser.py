from typing import Any

import numpy as np
import pytest

from tailrace.hdl.gemv.serialiser import Serialiser
from tailrace.spec.config import Config

from ..simulate import simulate
from . import bench
from .bench import Stalls

CONFIGS = [Config("test", 128 * lanes, right_hand_sides=slots) for lanes, slots in ((1, 1), (1, 4), (2, 2), (4, 1), (4, 4))]


def draw(rng: np.random.Generator, config: Config) -> dict[str, Any]:
    lanes, slots = config.lanes, config.right_hand_sides
    sums = rng.integers(-(1 << 62), 1 << 62, (lanes, slots))
    return {
        "sums": [[int(x) << 49 for x in row] for row in sums],
        "group": {
            "rows": int(rng.integers(lanes)),
            "slots": int(rng.integers(slots)),
            "bases": [int(x) for x in rng.integers(-32768, 32768, slots)],
        },
    }


def flat(group: dict[str, Any]) -> list[tuple[int, int]]:
    notes = group["group"]
    return [
        (group["sums"][row][slot], notes["bases"][slot])
        for row in range(notes["rows"] + 1)
        for slot in range(notes["slots"] + 1)
    ]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.lanes}x{c.right_hand_sides}")
@pytest.mark.parametrize(("i", "o"), [(0, 0), (0.5, 0), (0.4, 0.4)])
def test_order(config: Config, i: float, o: float, rng: np.random.Generator) -> None:
    dut = Serialiser(config)
    groups = [draw(rng, config) for _ in range(30)]
    expected = [entry for group in groups for entry in flat(group)]
    stall_i, stall_o = Stalls(rng, i), Stalls(rng, o)
    received: list[tuple[int, int]] = []

    async def drive(ctx: bench.Context) -> None:
        sent = cycle = 0
        waiting = False
        while len(received) < len(expected):
            waiting = sent < len(groups) and (waiting or not stall_i())
            ctx.set(dut.i.valid, waiting)
            ctx.set(dut.i.payload, groups[sent] if waiting else draw(rng, config))
            ctx.set(dut.o.ready, not stall_o())
            if waiting and ctx.get(dut.i.ready):
                sent, waiting = sent + 1, False
            assert ctx.get(dut.busy) == ctx.get(dut.o.valid)
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                received.append((ctx.get(dut.o.payload.sum), ctx.get(dut.o.payload.base)))
            await ctx.tick()
            cycle += 1
            assert cycle < 20 * len(expected) + 100
        assert sent == len(groups)
        ctx.set(dut.i.valid, 0)
        assert not ctx.get(dut.busy)
        if not i and not o:
            # One sum a cycle, without a gap between groups.
            assert cycle == dut.latency + len(expected)

    simulate(dut, drive)
    assert received == expected
