from typing import Any

import numpy as np
import pytest

from tailrace.hdl.gemv.serialiser import Serialiser
from tailrace.spec.config import Config

from ..simulate import simulate
from . import bench

CONFIGS = [
    Config("test", 128 * lanes, right_hand_sides=slots, buffer_entries=1024)
    for lanes, slots in ((1, 1), (1, 4), (2, 2), (4, 1), (4, 4))
]


def draw(rng: np.random.Generator, config: Config) -> dict[str, Any]:
    lanes, slots, words = config.lanes, config.right_hand_sides, config.buffer_entries // config.lanes
    return {
        "sums": [[int(x) << 57 for x in row] for row in rng.integers(-(1 << 62), 1 << 62, (lanes, slots))],
        "group": {
            "address": int(rng.integers(words)),
            "stride": int(rng.integers(words)),
            "mask": int(rng.integers(1 << lanes)),
            "slots": int(rng.integers(slots)),
            "bases": [int(x) for x in rng.integers(-65536, 65536, slots)],
            "final": int(rng.integers(2)),
        },
    }


def words(drawn: dict[str, Any], config: Config) -> list[dict[str, Any]]:
    group = drawn["group"]
    return [
        {
            "word": [sums[slot] for sums in drawn["sums"]],
            "base": group["bases"][slot],
            "address": (group["address"] + slot * group["stride"]) % (config.buffer_entries // config.lanes),
            "mask": group["mask"],
            "final": int(group["final"] and slot == group["slots"]),
        }
        for slot in range(group["slots"] + 1)
    ]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.lanes}x{c.right_hand_sides}")
@pytest.mark.parametrize("gaps", [0, 0.4])
def test_order(config: Config, gaps: float, rng: np.random.Generator) -> None:
    dut = Serialiser(config)
    groups = [draw(rng, config) for _ in range(25)]

    async def drive(ctx: bench.Context) -> None:
        waiting: list[dict[str, Any]] = []
        sent = cycle = 0
        while sent < len(groups) or waiting:
            # One word in each cycle, from the one after the group.
            assert ctx.get(dut.word_valid) == bool(waiting)
            if waiting:
                seen = {name: ctx.get(getattr(dut.place, name)) for name in ("address", "mask", "final")}
                seen |= {"word": [ctx.get(dut.word[n]) for n in range(config.lanes)], "base": ctx.get(dut.base)}
                assert seen == waiting.pop(0)
            # The next group comes when the one before it is over.
            valid = sent < len(groups) and not waiting and rng.random() >= gaps
            drawn = groups[sent] if valid else draw(rng, config)
            ctx.set(dut.valid, valid)
            ctx.set(dut.sums, drawn["sums"])
            ctx.set(dut.group, drawn["group"])
            if valid:
                waiting, sent = words(drawn, config), sent + 1
            await ctx.tick()
            cycle += 1
        if not gaps:
            assert cycle == dut.latency + sum(g["group"]["slots"] + 1 for g in groups)

    simulate(dut, drive)
