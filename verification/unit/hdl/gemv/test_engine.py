from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal

from tailrace.hdl.gemv.engine import GemvEngine
from tailrace.spec.config import Config
from tailrace.spec.formats import BY_NAME, FORMATS, I8, SUPERBLOCK, Format, ScaleKind
from tailrace.spec.isa import BUFFER_UNIT
from tailrace.spec.numerics import quantise

from ..simulate import simulate
from . import bench
from .bench import GAP, Matrix, Stalls, Vector

CONFIGS = ONE_LANE, TWO_LANES, FOUR_LANES = [
    Config(f"{128 * n}x{n}", 128 * n, right_hand_sides=n, vector_blocks=64, buffer_entries=1024) for n in (1, 2, 4)
]
#: Words of results that begin at any multiple of 4 entries.
EIGHT_LANES = Config("4x256x2", 256, right_hand_sides=2, vector_blocks=64, buffer_entries=1024, channels=4)
FOUR_SLOTS = Config("128x4", 128, right_hand_sides=4, vector_blocks=64, buffer_entries=1024)


@dataclass
class Job:
    """A command: its matrix, vectors from `first_block` of the slots on, and where results and, if they are kept, maxima go."""

    matrix: Matrix
    vectors: list[Vector]
    first_block: int = 0
    set: int = 0
    exponent: int = 0
    offset: int = 0
    slot_stride: int = 0
    maxima: int | None = None
    masked: int = 0

    def command(self, config: Config) -> dict[str, Any]:
        names = ("first_block", "set", "exponent", "offset", "slot_stride", "masked")
        bases = [v.base for v in self.vectors] + [5] * (config.right_hand_sides - len(self.vectors))
        return {name: getattr(self, name) for name in names} | {
            "format": self.matrix.format.number,
            "rows": self.matrix.rows,
            "blocks": self.matrix.blocks,
            "slots": len(self.vectors),
            "bases": bases,
            "keep_maxima": self.maxima is not None,
            "maxima": self.maxima or 0,
        }

    def writes(self, config: Config) -> "list[Write]":
        """The writes of the command, by its definition: an entry for each row and slot, and one for each maximum."""
        rows, slots, writes = self.matrix.rows, len(self.vectors), []
        largest: dict[int, float] = {}
        for group in range(-(-rows // config.lanes)):
            for slot, vector in enumerate(self.vectors):
                here = range(group * config.lanes, min((group + 1) * config.lanes, rows))
                entries = [(self.offset + slot * self.slot_stride + row) % config.buffer_entries for row in here]
                seen = rows - (self.masked - slot % (self.masked + 1))
                results = [bench.result(self.matrix, row, vector, self.exponent) if row < seen else 0xFF800000 for row in here]
                numbers = np.array(results, dtype=np.uint32).view(np.float32)
                largest[slot] = max([float(x) for x in numbers] + ([largest[slot]] if slot in largest else []))
                writes.append(
                    Write(
                        {entry: f"{r:08x}" for entry, r in zip(entries, results, strict=True)},
                        slot,
                        finished=rows == here[-1] + 1 and slot == slots - 1 and self.maxima is None,
                    )
                )
        for slot, value in largest.items() if self.maxima is not None else ():
            entry = (self.maxima + BUFFER_UNIT * slot) % config.buffer_entries
            bits = int(np.float32(value).view(np.uint32))
            # They come as if there were more slots, and the gap.
            writes.append(Write({entry: f"{bits:08x}"}, slots + GAP[config.lanes] + slot, finished=slot == slots - 1))
        return writes


@dataclass
class Write:
    """Results by entry."""

    results: dict[int, str]
    slot: int
    finished: bool
    cycle: int = field(default=0, compare=False)


class Run:
    """Drives an engine with jobs and records, cycle by cycle, what it does.

    Parameters
    ----------
    stall : float
        Share of cycles in which beats, or commands, pause.
    """

    def __init__(self, config: Config, jobs: list[Job], rng: np.random.Generator, stall: float = 0) -> None:
        self.config, self.jobs, self.rng = config, jobs, rng
        self.stall_beat, self.stall_command = Stalls(rng, stall), Stalls(rng, stall)
        self.beats = [b for job in jobs for b in bench.stream(job.matrix, config.lanes, rng)]
        self.expected = [write for job in jobs for write in job.writes(config)]
        self.writes: list[Write] = []
        #: Beats up to the end of each job.
        self.ends = np.cumsum(
            [job.matrix.format.matrix_beats(job.matrix.rows, job.matrix.blocks, config.lanes) for job in jobs]
        )
        #: Cycles in which a beat was taken.
        self.beat_cycles: list[int] = []
        self.dut = GemvEngine(config)

    @property
    def results(self) -> list[str]:
        return [r for write in self.writes for r in write.results.values()]

    def check(self) -> "Run":
        simulate(self.dut, self.drive)
        return self.check_record()

    def check_after_flush(self, cycles: int) -> "Run":
        """The same, after so many cycles of another run that a reset cuts off."""
        flush = Signal()

        async def drive(ctx: bench.Context) -> None:
            ctx.set(self.dut.command.payload, self.jobs[0].command(self.config))
            ctx.set(self.dut.command.valid, 1)
            ctx.set(self.dut.i.valid, 1)
            for n in range(cycles):
                ctx.set(self.dut.i.payload, self.beats[n % len(self.beats)])
                await ctx.tick()
            ctx.set(flush, 1)
            await ctx.tick()
            ctx.set(flush, 0)
            await self.drive(ctx)

        simulate(ResetInserter(flush)(self.dut), drive)
        return self.check_record()

    def check_record(self) -> "Run":
        # The slot of a write is not seen, but follows from its number.
        assert [(w.results, w.finished) for w in self.writes] == [(w.results, w.finished) for w in self.expected]
        # So many cycles after the last beat of the row, whatever else goes on.
        row_ends = [self.beat_cycles[n] for n in self.row_ends()]
        cycles = [write.cycle - write.slot for write in self.expected_with_cycles()]
        assert cycles == [
            end + GemvEngine.latency for end, slots in zip(row_ends, self.row_slots(), strict=True) for _ in range(slots)
        ]
        return self

    def expected_with_cycles(self) -> list[Write]:
        return [
            Write(want.results, want.slot, want.finished, got.cycle)
            for want, got in zip(self.expected, self.writes, strict=True)
        ]

    def row_slots(self) -> list[int]:
        rows = []
        for job in self.jobs:
            rows += [len(job.vectors)] * -(-job.matrix.rows // self.config.lanes)
            rows[-1] *= 1 if job.maxima is None else 2
        return rows

    def row_ends(self) -> list[int]:
        """Numbers of the beats that end a group of rows."""
        ends, start = [], 0
        for job in self.jobs:
            matrix = job.matrix
            groups = -(-matrix.rows // self.config.lanes)
            last = {block: n for n, (_, block) in enumerate(matrix.format.schedule(groups * matrix.blocks))}
            ends += [start + last[(group + 1) * matrix.stream_blocks - 1] for group in range(groups)]
            start += matrix.format.matrix_beats(matrix.rows, matrix.blocks, self.config.lanes)
        return ends

    async def drive(self, ctx: bench.Context) -> None:
        dut, config = self.dut, self.config
        limit = 20 * (len(self.beats) + len(self.expected)) + 1000
        accepted = cycle = 0
        read: tuple[int, int, int] | None = None
        command_waits = beat_waits = False
        while len(self.writes) < len(self.expected):
            assert cycle < limit, f"{len(self.writes)} of {len(self.expected)} writes after {cycle} cycles"
            self.set_vectors(ctx, read)
            # What is offered stays until it is taken.
            command_waits = accepted < len(self.jobs) and (command_waits or not self.stall_command())
            beat_waits = len(self.beat_cycles) < len(self.beats) and (beat_waits or not self.stall_beat())
            ctx.set(dut.command.valid, command_waits)
            if command_waits:
                ctx.set(dut.command.payload, self.jobs[accepted].command(config))
            ctx.set(dut.i.valid, beat_waits)
            ctx.set(dut.i.payload, self.beats[len(self.beat_cycles)] if beat_waits else int(self.rng.integers(1 << 62)))
            # The memory holds the vectors of the job that the next beat belongs to, and no others.
            job = int(np.searchsorted(self.ends, len(self.beat_cycles), side="right"))
            read = (job, ctx.get(dut.vector_block), ctx.get(dut.set))
            if ctx.get(dut.write.enable):
                address, mask = ctx.get(dut.write.address), ctx.get(dut.write.mask)
                data = [ctx.get(dut.write.data[lane]) for lane in range(config.lanes)]
                first = address * min(config.lanes, BUFFER_UNIT)
                results = {(first + n) % config.buffer_entries: f"{x:08x}" for n, x in enumerate(data) if mask >> n & 1}
                self.writes.append(Write(results, -1, bool(ctx.get(dut.finished)), cycle))
            else:
                assert not ctx.get(dut.finished)
            if command_waits and ctx.get(dut.command.ready):
                accepted, command_waits = accepted + 1, False
            if beat_waits and ctx.get(dut.i.ready):
                self.beat_cycles.append(cycle)
                beat_waits = False
            await ctx.tick()
            cycle += 1
        assert len(self.beat_cycles) == len(self.beats)
        ctx.set(dut.i.valid, 1)
        for _ in range(dut.latency + 5):
            assert not ctx.get(dut.i.ready)
            assert not ctx.get(dut.write.enable)
            await ctx.tick()

    def set_vectors(self, ctx: bench.Context, read: tuple[int, int, int] | None) -> None:
        """A vector memory with a latency of one cycle. Blocks, slots and sets that do not matter hold anything."""
        if read is None:
            return
        number, place, set_ = read
        job = self.jobs[number] if number < len(self.jobs) else None
        for slot in range(self.config.right_hand_sides):
            block = bench.random_vector(self.rng, 1).block(0)
            if job and slot < len(job.vectors) and set_ == job.set:
                n = (place - job.first_block) % self.config.vector_blocks
                if n < len(job.vectors[slot].exponents):
                    block = job.vectors[slot].block(n)
            ctx.set(self.dut.vector[slot], block)


def draw(rng: np.random.Generator, config: Config, shapes: list[tuple[Format, int, int, int]], keeping: float = 0) -> list[Job]:
    """Jobs of random contents and places from formats, rows, blocks and slots; a share of them keeps its maxima, and one masks."""
    return [
        Job(
            bench.random_matrix(rng, format, rows, blocks),
            [bench.random_vector(rng, blocks) for _ in range(slots)],
            first_block=int(rng.integers(config.vector_blocks)),
            set=int(rng.integers(4)),
            exponent=int(rng.integers(-128, 128)),
            offset=4 * int(rng.integers(config.buffer_entries // 4)),
            slot_stride=4 * int(rng.integers(1 << 14)),
            maxima=4 * int(rng.integers(config.buffer_entries // 4)) if rng.random() < keeping else None,
            masked=int(rng.integers(config.right_hand_sides)) if rng.random() < keeping else 0,
        )
        for format, rows, blocks, slots in shapes
    ]


@pytest.mark.parametrize("config", [*CONFIGS, EIGHT_LANES], ids=lambda c: c.name)
@pytest.mark.parametrize("stall", [0, 0.4])
def test_formats_follow_each_other(config: Config, stall: float, rng: np.random.Generator) -> None:
    shapes = [
        (
            format,
            int(rng.integers(1, 2 * config.lanes + 2)),
            8 if format.row_blocks > 1 else int(rng.integers(1, 12)),
            int(rng.integers(1, config.right_hand_sides + 1)),
        )
        for format in rng.permutation(np.array(FORMATS, dtype=object))
    ]
    Run(config, draw(rng, config, shapes, 0.5), rng, stall).check()


@pytest.mark.parametrize("config", [*CONFIGS, FOUR_SLOTS], ids=lambda c: c.name)
@pytest.mark.parametrize("stall", [0, 0.4])
def test_maxima_of_rows_of_one_beat(config: Config, stall: float, rng: np.random.Generator) -> None:
    """The next command's results come as soon as the maxima leave room, with and without maxima of their own."""
    shapes = [(I8, int(rows), 1, int(slots)) for rows, slots in rng.integers(1, config.right_hand_sides + 1, (24, 2))]
    jobs = draw(rng, config, shapes, 0.7)
    run = Run(config, jobs, rng, stall).check()
    if not stall:
        kept = [n for n, job in enumerate(jobs) if job.maxima is not None]
        ends = np.cumsum([len(job.writes(config)) for job in jobs])
        # A cycle without a beat may follow a command of a single one.
        gaps = [run.writes[ends[n]].cycle - run.writes[ends[n] - 1].cycle for n in kept if n + 1 < len(jobs)]
        assert set(gaps) <= {1, 2}


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_shapes(format: Format, rng: np.random.Generator) -> None:
    """One row, one block, one less and one more than the lanes, a long row, side beats that serve several rows."""
    config = TWO_LANES
    shapes = [(1, 1), (1, 9), (config.lanes + 1, 1), (2 * config.lanes, 3), (max(config.lanes - 1, 1), 4), (5, 5)]
    if format.row_blocks > 1:
        shapes = [(1, 8), (config.lanes + 1, 16), (6, 8)]
    Run(config, draw(rng, config, [(format, rows, blocks, 2) for rows, blocks in shapes], 0.5), rng).check()


def test_longest_row(rng: np.random.Generator) -> None:
    shapes = [(BY_NAME["Q6_K"], 2, 64, 1), (BY_NAME["Q4_0"], 1, 64, 1)]
    Run(ONE_LANE, draw(rng, ONE_LANE, shapes), rng).check()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_one_beat_a_cycle(config: Config, rng: np.random.Generator) -> None:
    """Across rows, commands and formats, as long as a row has as many beats as results."""
    shapes = []
    for format in FORMATS:
        blocks = max(config.right_hand_sides, format.row_blocks)
        shapes.append((format, config.lanes + 1, blocks, config.right_hand_sides))
    run = Run(config, draw(rng, config, shapes), rng).check()
    first = run.beat_cycles[0]
    assert run.beat_cycles == list(range(first, first + len(run.beats)))


def test_short_rows_come_as_fast_as_their_results_leave(rng: np.random.Generator) -> None:
    config = FOUR_SLOTS
    shapes = [(BY_NAME["Q4_0"], 10, 1, 4), (I8, 12, 1, 3), (I8, 12, 1, 1)]
    run = Run(config, draw(rng, config, shapes), rng).check()
    first = run.writes[0].cycle
    assert [w.cycle for w in run.writes] == list(range(first, first + 10 * 4 + 12 * 3 + 12))
    # With one slot, the beats are the bottleneck.
    run = Run(ONE_LANE, draw(rng, ONE_LANE, [(BY_NAME["Q4_0"], 64, 1, 1), (BY_NAME["Q4_1"], 3, 1, 1)]), rng).check()
    assert run.beat_cycles == list(range(run.beat_cycles[0], run.beat_cycles[0] + len(run.beats)))


#: Zeros, subnormals, the largest, infinities and NaNs (by the formula), with both signs.
EXTREME_SCALES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x8400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7FFF, 0xFFFF]


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_extreme_scales(format: Format, rng: np.random.Generator) -> None:
    config = TWO_LANES
    job = draw(rng, config, [(format, 16, max(4, format.row_blocks), 2)])[0]
    matrix, vectors = job.matrix, job.vectors
    if format.scale_kind is ScaleKind.EXPONENT:
        matrix.scales[:] = rng.choice([0, 30], matrix.scales.shape)
    elif format.scale_kind is ScaleKind.FLOAT8:
        matrix.scales[:], matrix.minima[:] = (rng.choice([0, 1, 7, 8, 127, 255], matrix.scales.shape) for _ in range(2))
    elif format.row_blocks > 1:
        extremes = [rng.choice(EXTREME_SCALES, (matrix.rows, matrix.blocks // SUPERBLOCK)) for _ in range(2)]
        matrix.scales, matrix.minima = (np.repeat(x, SUPERBLOCK, axis=1) for x in extremes)
    else:
        matrix.scales[:] = rng.choice(EXTREME_SCALES, matrix.scales.shape)
        matrix.minima[:] = rng.choice(EXTREME_SCALES, matrix.minima.shape)
    matrix.scales[0] = matrix.minima[0] = 0
    # Results that overflow, that are below the smallest normal number, and beyond anything that a vector can have as its base.
    bases = ((120, -190), (60, -120), (32767, -32768))
    jobs = [
        Job(matrix, [Vector(base, v.exponents, v.mantissas, v.zero) for v, base in zip(vectors, pair, strict=True)], exponent=e)
        for pair, e in zip(bases, (0, 0, 127), strict=True)
    ]
    run = Run(config, jobs, rng).check()
    for bits in ("00000000", "7f800000", "ff800000"):
        assert bits in run.results


def test_vector_of_zeros(rng: np.random.Generator) -> None:
    """Blocks that count as zero, one, all, and the first of a row, add nothing, whatever they hold."""
    jobs = draw(rng, ONE_LANE, [(format, 2, 8, 1) for format in FORMATS for _ in range(3)])
    for n, job in enumerate(jobs):
        job.vectors[0].zero[:] = (np.arange(8) == 0, np.arange(8) != 3, np.ones(8, dtype=bool))[n % 3]
    run = Run(ONE_LANE, jobs, rng).check()
    assert [run.results[2 * n : 2 * n + 2] for n in range(2, len(jobs), 3)] == [["00000000"] * 2] * len(FORMATS)


@pytest.mark.parametrize("cycles", [4, 9, 21, 24, 30, 38, 42])
def test_flush(cycles: int, rng: np.random.Generator) -> None:
    """A reset at any time leaves nothing behind that the next command could see."""
    Run(FOUR_SLOTS, draw(rng, FOUR_SLOTS, [(BY_NAME["Q4_1"], 3, 2, 4), (I8, 4, 1, 3)], keeping=1), rng).check_after_flush(
        cycles
    )


def test_terms_that_cancel(rng: np.random.Generator) -> None:
    """A small rest of large terms of opposite sign, and a sum that is exactly zero."""
    matrix = bench.random_matrix(rng, BY_NAME["Q4_1"], 4, 4)
    matrix.codes[:, 2:] = matrix.codes[:, :2]
    matrix.scales[:, 2:] = matrix.scales[:, :2] ^ 0x8000
    matrix.minima[:, 2:] = matrix.minima[:, :2] ^ 0x8000
    matrix.minima[1:, 3] ^= 1
    vector = bench.random_vector(rng, 4)
    vector.exponents[2:], vector.mantissas[2:] = vector.exponents[:2], vector.mantissas[:2]
    vector.zero[:] = False
    run = Run(ONE_LANE, [Job(matrix, [vector])], rng).check()
    assert run.results[0] == "00000000"
    assert all(r != "00000000" for r in run.results[1:])


@pytest.mark.parametrize("name", ["Q8_0", "Q5_1"])
def test_real_numbers(name: str, rng: np.random.Generator) -> None:
    """Activations and weights as they occur: the result is the float64 dot product to one rounding."""
    config, format = TWO_LANES, BY_NAME[name]
    x = rng.standard_normal(32 * 6).astype(np.float32)
    base, exponents, mantissas = quantise(x)
    matrix = bench.random_matrix(rng, format, 5, 6)
    matrix.scales[:] = rng.uniform(0.001, 0.02, matrix.scales.shape).astype(np.float16).view(np.uint16)
    matrix.minima[:] = rng.uniform(-0.2, 0.0, matrix.minima.shape).astype(np.float16).view(np.uint16)
    vector = Vector(base, exponents, mantissas.astype(int))
    run = Run(config, [Job(matrix, [vector])], rng).check()
    weights = (matrix.codes - format.code_offset) * matrix.scales.astype(np.uint16).view(np.float16).astype(float)[..., None]
    if format.has_minimum:
        weights += matrix.minima.astype(np.uint16).view(np.float16).astype(float)[..., None]
    activations = np.ldexp(vector.mantissas.astype(float), base + exponents.astype(int)[:, None])
    exact = (weights * activations).sum(axis=(1, 2))
    got: Any = np.array([int(r, 16) for r in run.results], dtype=np.uint32).view(np.float32)
    assert np.abs(got - exact).max() <= np.abs(exact).max() * 2.0**-24
