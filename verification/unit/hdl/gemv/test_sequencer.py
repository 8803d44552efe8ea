from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tailrace.hdl.gemv.sequencer import BeatSequencer, behind_bits
from tailrace.hdl.gemv.traits import SCALE_KINDS
from tailrace.spec.config import Config
from tailrace.spec.formats import BY_NAME, CODEBOOKS, FORMATS, I8, BeatKind, Format
from tailrace.spec.isa import BUFFER_UNIT

from ..simulate import simulate
from ..widths import ports
from . import bench
from .bench import GAP

KINDS = [kind.value for kind in BeatKind]


@dataclass
class Job:
    """A command; its other fields are drawn."""

    format: Format
    rows: int
    blocks: int
    slots: int = 1

    def command(self, rng: np.random.Generator, config: Config) -> dict[str, Any]:
        return {
            "format": self.format.number,
            "rows": self.rows,
            "blocks": self.blocks,
            "slots": self.slots,
            "first_block": int(rng.integers(config.vector_blocks)),
            "set": int(rng.integers(4)),
            "exponent": int(rng.integers(-128, 128)),
            "offset": 4 * int(rng.integers(config.buffer_entries // 4)),
            "slot_stride": 4 * int(rng.integers(1 << 14)),
            "keep_maxima": int(rng.integers(2)),
            "maxima": 4 * int(rng.integers(config.buffer_entries // 4)),
            "masked": int(rng.integers(config.right_hand_sides)),
            "bases": rng.integers(-32768, 32768, config.right_hand_sides).tolist(),
        }

    def beats(self, command: dict[str, Any], config: Config) -> list[dict[str, Any]]:
        """What the sequencer says of each beat, from the schedule in the contract."""
        format, blocks = self.format, self.blocks
        groups, unit = -(-self.rows // config.lanes), min(config.lanes, BUFFER_UNIT)
        words = config.buffer_entries // unit
        schedule = list(format.schedule(groups * blocks))
        beats = []
        for n, (kind, block) in enumerate(schedule):
            beat: dict[str, Any] = {"kind": kind.value, "row_taken": False}
            if kind is BeatKind.NIBBLE:
                second = n > 0 and schedule[n - 1] == (kind, block)
                two = format.nibble_beats == 2
                row, column = divmod(block, blocks * format.planes)
                end = (second or not two) and column == blocks * format.planes - 1
                beat |= {
                    "block": (command["first_block"] + column // format.planes) % config.vector_blocks,
                    "set": command["set"],
                    "upper": two and not second,
                    "lower": second,
                    "term": second or not two,
                    "first": column == 0,
                    "last": column == blocks * format.planes - 1,
                    "row_taken": end,
                }
                if format.row_blocks > 1:
                    beat["superblock"] = block % 8 == 7
                if end:
                    here = min(self.rows - config.lanes * row, config.lanes)
                    beat["group"] = {
                        "address": (command["offset"] + row * config.lanes) // unit % words,
                        "stride": command["slot_stride"] // unit % words,
                        "mask": (1 << here) - 1,
                        "slots": self.slots - 1,
                        "bases": [base + command["exponent"] for base in command["bases"]],
                        "first": row == 0,
                        "final": row == groups - 1,
                        "keep_maxima": int(command["keep_maxima"] and row == groups - 1),
                        "maxima": command["maxima"] // unit,
                        "masked": command["masked"],
                        # All ones: too many to be masked.
                        "behind": min(self.rows - 1 - config.lanes * row, (1 << behind_bits(config)) - 1),
                    }
            beat["traits"] = {
                "scale_kind": SCALE_KINDS.index(format.scale_kind),
                "has_minimum": int(format.has_minimum),
                "subscales": int(format.subscale_blocks > 0),
                "centred": int(format.code_offset != 0),
                "codebook": CODEBOOKS.index(format.codebook),
                "high_bits": format.high_bits,
            }
            beats.append(beat | {"slots": (1 << self.slots) - 1})
        return beats


def seen_beat(ctx: bench.Context, dut: BeatSequencer, wanted: dict[str, Any]) -> dict[str, Any]:
    control, group = dut.control, dut.group
    kinds = [kind for kind in KINDS if ctx.get(getattr(control, kind))]
    assert len(kinds) == 1
    beat: dict[str, Any] = {"kind": kinds[0], "row_taken": ctx.get(dut.row_taken)}
    for name in ("upper", "lower", "term", "first", "last", "superblock"):
        if name in wanted:
            beat[name] = ctx.get(getattr(control, name))
    if kinds == ["nibble"]:
        beat |= {"block": ctx.get(dut.block), "set": ctx.get(dut.set)}
    if "group" in wanted:
        names = ("address", "stride", "mask", "slots", "first", "final", "keep_maxima", "maxima", "masked", "behind")
        beat["group"] = {name: ctx.get(getattr(group, name)) for name in names}
        beat["group"]["bases"] = [ctx.get(group.bases[slot]) for slot in range(len(group.bases))]
    beat["traits"] = {name: ctx.get(getattr(control.traits, name)) for name in wanted["traits"]}
    return beat | {"slots": ctx.get(control.slots)}


def run(config: Config, jobs: list[Job], rng: np.random.Generator, stall: float) -> None:
    dut = BeatSequencer(config)
    commands = [job.command(rng, config) for job in jobs]
    expected = [beat for job, command in zip(jobs, commands, strict=True) for beat in job.beats(command, config)]
    cycles: list[int] = []

    async def drive(ctx: bench.Context) -> None:
        accepted = cycle = 0
        waiting = False
        assert not ctx.get(dut.ready)
        while len(cycles) < len(expected):
            waiting = accepted < len(jobs) and (waiting or rng.random() >= stall)
            ctx.set(dut.command.valid, waiting)
            if waiting:
                ctx.set(dut.command.payload, commands[accepted])
            ctx.set(dut.valid, 0)
            ready, block = ctx.get(dut.ready), ctx.get(dut.block)
            assert not any(ctx.get(getattr(dut.control, kind)) for kind in KINDS)
            assert not ctx.get(dut.row_taken)
            ctx.set(dut.valid, rng.random() >= stall)
            # Neither depends on what is offered.
            assert (ctx.get(dut.ready), ctx.get(dut.block)) == (ready, block)
            if ctx.get(dut.valid) and ready:
                wanted = expected[len(cycles)]
                assert seen_beat(ctx, dut, wanted) == wanted, (len(cycles), jobs)
                cycles.append(cycle)
            if waiting and ctx.get(dut.command.ready):
                accepted, waiting = accepted + 1, False
            await ctx.tick()
            cycle += 1
            assert cycle < 50 * len(expected) + 100
        ctx.set(dut.valid, 1)
        assert not ctx.get(dut.ready)

    simulate(dut, drive)
    # No gap between rows or commands, but for the time in which the results of the row before leave, and maxima behind them.
    earliest, results_gone = cycles[0], 0
    for cycle, beat in zip(cycles, expected, strict=True):
        if beat["row_taken"]:
            earliest = max(earliest, results_gone)
            words = beat["group"]["slots"] + 1
            results_gone = cycle + words + (GAP[config.lanes] + words if beat["group"]["keep_maxima"] else 0)
        assert cycle == earliest if not stall else cycle >= earliest
        earliest = cycle + 1


def shapes(format: Format, lanes: int) -> list[tuple[int, int]]:
    """All phases of rows against side beats, the shortest and the longest rows, one row, full and partial last groups."""
    if format.row_blocks > 1:
        return [(1, 8), (2 * lanes + 1, 16), (9 * lanes, 8)]
    if format is I8:
        # A command of one beat leaves a gap behind it.
        return [(2 * lanes, 1), (1, 9), (1, 64), (5, 3)]
    return [(1, 1), (9, 1), (5, 3), (3, 4), (2, 8), (1, 64), (lanes * 4, 5), (lanes + 1, 11)]


@pytest.mark.parametrize("bus_width", [128, 512, 2048])
@pytest.mark.parametrize("stall", [0, 0.3])
@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_one_format(format: Format, bus_width: int, stall: float, rng: np.random.Generator) -> None:
    config = Config("test", **ports(bus_width), vector_blocks=64, buffer_entries=1024)
    run(config, [Job(format, rows, blocks) for rows, blocks in shapes(format, config.lanes)], rng, stall)


@pytest.mark.parametrize("stall", [0, 0.3])
def test_formats_follow_each_other(stall: float, rng: np.random.Generator) -> None:
    config = Config("test", 256, right_hand_sides=4, vector_blocks=64, buffer_entries=1024)
    jobs = []
    for _ in range(40):
        format = FORMATS[int(rng.integers(len(FORMATS)))]
        blocks = 8 if format.row_blocks > 1 else int(rng.integers(2, 10))
        jobs.append(Job(format, int(rng.integers(1, 8)), blocks, int(rng.integers(1, 5))))
    run(config, jobs, rng, stall)


def test_largest_shape_is_counted() -> None:
    """The longest row, and the counter of rows at its limit, seen at the first beats only."""
    config = Config("test", 128, vector_blocks=4096, buffer_entries=65536)
    dut = BeatSequencer(config)

    async def drive(ctx: bench.Context) -> None:
        ctx.set(dut.command.payload, {"format": BY_NAME["Q4_0"].number, "rows": 65536, "blocks": 4096, "slots": 1})
        ctx.set(dut.command.valid, 1)
        ctx.set(dut.valid, 1)
        await ctx.tick()
        ctx.set(dut.command.valid, 0)
        rows = blocks = 0
        for _ in range(2 * (4096 + 512) + 2):
            blocks += ctx.get(dut.control.nibble)
            if ctx.get(dut.row_taken):
                assert ctx.get(dut.block) == 4095
                rows += 1
                assert blocks == 4096 * rows
                assert not ctx.get(dut.group.final)
            await ctx.tick()
        assert rows == 2
        assert ctx.get(dut.ready)

    simulate(dut, drive)
