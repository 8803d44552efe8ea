from typing import Any

import numpy as np
import pytest

from tailrace.hdl.gemv.sequencer import behind_bits
from tailrace.hdl.gemv.serialiser import Serialiser
from tailrace.spec.config import Config
from tailrace.spec.isa import BUFFER_UNIT

from ..simulate import simulate
from ..widths import ports
from . import bench

CONFIGS = [
    Config("test", **ports(128 * lanes), right_hand_sides=slots, buffer_entries=1024)
    for lanes, slots in ((1, 1), (1, 4), (2, 2), (4, 1), (4, 4), (8, 2), (16, 1))
]


def draw(rng: np.random.Generator, config: Config) -> dict[str, Any]:
    lanes, slots, words = config.lanes, config.right_hand_sides, config.buffer_entries // min(config.lanes, BUFFER_UNIT)
    return {
        "sums": [[int(x) << 57 for x in row] for row in rng.integers(-(1 << 62), 1 << 62, (lanes, slots))],
        "group": {
            "address": int(rng.integers(words)),
            "stride": int(rng.integers(words)),
            "mask": int(rng.integers(1 << lanes)),
            "slots": int(rng.integers(slots)),
            "bases": [int(x) for x in rng.integers(-65536, 65536, slots)],
            "first": int(rng.integers(2)),
            "final": (final := int(rng.integers(2))),
            "keep_maxima": final and int(rng.integers(2)),
            "maxima": int(rng.integers(words)),
            "masked": int(rng.integers(slots)),
            "behind": int(rng.integers(1 << behind_bits(config))),
        },
    }


def words(drawn: dict[str, Any], config: Config) -> list[dict[str, Any] | None]:
    """The words of a group, and none in the cycles before those of maxima."""
    group, depth = drawn["group"], config.buffer_entries // min(config.lanes, BUFFER_UNIT)
    keeps, slots = group["keep_maxima"], config.right_hand_sides

    def place(slot: int, address: int, stride: int, **others: int) -> dict[str, Any]:
        last = int(slot == group["slots"])
        return {"address": (address + slot * stride) % depth, "first": group["first"], "last": last} | others

    results: list[dict[str, Any] | None] = []
    for slot in range(group["slots"] + 1):
        final = int(group["final"] and not keeps and slot == group["slots"])
        found = place(slot, group["address"], group["stride"], mask=group["mask"], maximum=0, final=final)
        hidden = group["masked"] - slot % (group["masked"] + 1)
        found["hidden"] = sum((group["behind"] < hidden + n) << n for n in range(config.lanes)) if slots > 1 else 0
        results.append(found | {"word": [sums[slot] for sums in drawn["sums"]], "base": group["bases"][slot]})
    if keeps:
        results += [None] * bench.GAP[config.lanes]
        for slot in range(group["slots"] + 1):
            final = int(slot == group["slots"])
            results.append(
                place(slot, group["maxima"], BUFFER_UNIT // min(config.lanes, BUFFER_UNIT), mask=1, maximum=1, final=final)
            )
    return results


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.lanes}x{c.right_hand_sides}")
@pytest.mark.parametrize("gaps", [0, 0.4])
def test_order(config: Config, gaps: float, rng: np.random.Generator) -> None:
    dut = Serialiser(config)
    groups = [draw(rng, config) for _ in range(25)]

    async def drive(ctx: bench.Context) -> None:
        waiting: list[dict[str, Any] | None] = []
        sent = cycle = cycles = 0
        while sent < len(groups) or waiting:
            # One word in each cycle, from the one after the group.
            wanted = waiting.pop(0) if waiting else None
            assert ctx.get(dut.word_valid) == (wanted is not None)
            if wanted is not None:
                places = ("address", "mask", "first", "last", "maximum", "final")
                seen = {name: ctx.get(getattr(dut.place, name)) for name in places}
                if not wanted["maximum"]:
                    seen["hidden"] = ctx.get(dut.place.hidden)
                    seen |= {"word": [ctx.get(dut.word[n]) for n in range(config.lanes)], "base": ctx.get(dut.base)}
                assert seen == wanted
            # The next group comes when the one before it is over.
            valid = sent < len(groups) and not waiting and rng.random() >= gaps
            drawn = groups[sent] if valid else draw(rng, config)
            ctx.set(dut.valid, valid)
            ctx.set(dut.sums, drawn["sums"])
            ctx.set(dut.group, drawn["group"])
            if valid:
                waiting, sent = words(drawn, config), sent + 1
                cycles += len(waiting)
            await ctx.tick()
            cycle += 1
        if not gaps:
            assert cycle == dut.latency + cycles

    simulate(dut, drive)
