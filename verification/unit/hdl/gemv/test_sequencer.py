from typing import Any

import numpy as np
import pytest

from tailrace.hdl.gemv.sequencer import BeatSequencer
from tailrace.hdl.gemv.traits import OFFSETS, SIGNED_OFFSET
from tailrace.spec.config import Config
from tailrace.spec.formats import BY_NAME, FORMATS, BeatKind, Format

from ..simulate import simulate
from . import bench

Job = tuple[Format, int, int, int]


def expected_beats(job: Job, config: Config) -> list[dict[str, Any]]:
    """What the sequencer says of each beat, from the schedule in the contract."""
    format, rows, blocks, slots = job
    groups = -(-rows // config.lanes)
    schedule = list(format.schedule(groups * blocks))
    beats = []
    for n, (kind, block) in enumerate(schedule):
        beat: dict[str, Any] = {"kind": kind.value, "row_taken": False, "taken": False}
        if kind is BeatKind.NIBBLE:
            second = n > 0 and schedule[n - 1] == (kind, block)
            two = format.nibble_beats == 2
            term = second or not two
            row, column = divmod(block, blocks)
            end = term and column == blocks - 1
            beat |= {
                "block": column,
                "upper": two and not second,
                "lower": second,
                "term": term,
                "first": column == 0,
                "last": column == blocks - 1,
                "offset": SIGNED_OFFSET if two and not second else format.code_offset,
                "row_taken": end,
                "taken": end and row == groups - 1,
            }
            if end:
                beat["rows"] = rows - config.lanes * (groups - 1) if row == groups - 1 else config.lanes
        beat |= {"has_high": format.high_bits, "has_minimum": format.has_minimum, "slots": (1 << slots) - 1}
        beats.append(beat)
    return beats


def seen_beat(ctx: bench.Context, dut: BeatSequencer) -> dict[str, Any]:
    c = dut.control
    kinds = [kind for kind in ("scale", "high", "nibble") if ctx.get(getattr(c, kind))]
    assert len(kinds) == 1
    beat: dict[str, Any] = {"kind": kinds[0], "row_taken": bool(ctx.get(dut.row_taken)), "taken": bool(ctx.get(dut.taken))}
    if kinds == ["nibble"]:
        beat |= {name: bool(ctx.get(getattr(c, name))) for name in ("upper", "lower", "term", "first", "last")}
        beat |= {"block": ctx.get(dut.block), "offset": OFFSETS[ctx.get(c.offset)]}
    if beat["row_taken"]:
        beat["rows"] = ctx.get(dut.group.rows) + 1
    return beat | {name: ctx.get(getattr(c, name)) for name in ("has_high", "has_minimum", "slots")}


def run(config: Config, jobs: list[Job], rng: np.random.Generator, stall: float) -> None:
    dut = BeatSequencer(config)
    bases = [[int(x) for x in rng.integers(-32768, 32768, config.right_hand_sides)] for _ in jobs]
    expected = [(n, beat) for n, job in enumerate(jobs) for beat in expected_beats(job, config)]

    async def drive(ctx: bench.Context) -> None:
        accepted = taken = cycle = 0
        first = None
        waiting = False
        assert not ctx.get(dut.busy)
        while taken < len(expected):
            waiting = accepted < len(jobs) and (waiting or rng.random() >= stall)
            ctx.set(dut.command.valid, waiting)
            if waiting:
                format, rows, blocks, slots = jobs[accepted]
                ctx.set(
                    dut.command.payload,
                    {"format": format.number, "rows": rows, "blocks": blocks, "slots": slots, "bases": bases[accepted]},
                )
            room = rng.random() >= stall
            ctx.set(dut.room, room)
            ctx.set(dut.valid, 0)
            ready, block = ctx.get(dut.ready), ctx.get(dut.block)
            for kind in ("scale", "high", "nibble"):
                assert not ctx.get(getattr(dut.control, kind))
            assert not ctx.get(dut.row_taken)
            assert not ctx.get(dut.taken)
            ctx.set(dut.valid, rng.random() >= stall)
            # Neither depends on what is offered.
            assert (ctx.get(dut.ready), ctx.get(dut.block)) == (ready, block)
            job, beat = expected[taken]
            if ctx.get(dut.valid) and ready:
                first = cycle if first is None else first
                assert seen_beat(ctx, dut) == beat, (taken, jobs)
                assert room or not beat["row_taken"]
                if beat["row_taken"]:
                    assert ctx.get(dut.group.slots) + 1 == jobs[job][3]
                    assert [ctx.get(dut.group.bases[s].as_signed()) for s in range(len(bases[job]))] == bases[job]
                taken += 1
            elif job < accepted - 1 or (job < accepted and cycle > 2 and not stall):
                # Held back only for room.
                assert ready or (beat["row_taken"] and not room)
            if waiting and ctx.get(dut.command.ready):
                accepted, waiting = accepted + 1, False
            await ctx.tick()
            cycle += 1
            assert cycle < 50 * len(expected) + 100
        ctx.set(dut.valid, 1)
        assert not ctx.get(dut.busy)
        assert not ctx.get(dut.ready)
        if not stall:
            # No gap between rows or commands.
            assert first is not None
            assert cycle == first + len(expected)

    simulate(dut, drive)


@pytest.mark.parametrize("bus_width", [128, 256, 512])
@pytest.mark.parametrize("stall", [0, 0.3])
@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_one_format(format: Format, bus_width: int, stall: float, rng: np.random.Generator) -> None:
    config = Config("test", bus_width, vector_blocks=64)
    # All phases of rows against side beats, the shortest and the longest rows, one row, full and partial last groups.
    shapes = [(1, 1), (9, 1), (5, 3), (3, 4), (2, 8), (1, 64), (config.lanes * 4, 5), (config.lanes + 1, 11)]
    run(config, [(format, rows, blocks, 1) for rows, blocks in shapes], rng, stall)


@pytest.mark.parametrize("stall", [0, 0.3])
def test_formats_follow_each_other(stall: float, rng: np.random.Generator) -> None:
    config = Config("test", 256, right_hand_sides=4, vector_blocks=64)
    jobs = [
        (
            FORMATS[int(rng.integers(len(FORMATS)))],
            *(int(x) for x in (rng.integers(1, 8), rng.integers(1, 10), rng.integers(1, 5))),
        )
        for _ in range(40)
    ]
    run(config, jobs, rng, stall)


def test_largest_shape_is_counted() -> None:
    """The longest row, and the counter of rows at its limit, seen at the first beats only."""
    config = Config("test", 128, vector_blocks=4096)
    dut = BeatSequencer(config)

    async def drive(ctx: bench.Context) -> None:
        ctx.set(dut.command.payload, {"format": BY_NAME["Q4_0"].number, "rows": (1 << 24) - 1, "blocks": 4096, "slots": 1})
        ctx.set(dut.command.valid, 1)
        ctx.set(dut.valid, 1)
        ctx.set(dut.room, 1)
        await ctx.tick()
        ctx.set(dut.command.valid, 0)
        rows = blocks = 0
        for _ in range(2 * (4096 + 512) + 2):
            blocks += ctx.get(dut.control.nibble)
            if ctx.get(dut.row_taken):
                assert ctx.get(dut.block) == 4095
                rows += 1
                assert blocks == 4096 * rows
                assert not ctx.get(dut.taken)
            await ctx.tick()
        assert rows == 2
        assert ctx.get(dut.busy)

    simulate(dut, drive)
