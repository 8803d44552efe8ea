from typing import Any

import numpy as np
import pytest

from tailrace.hdl.gemv.engine import GROUPS, GemvEngine
from tailrace.spec.config import Config
from tailrace.spec.formats import BY_NAME, FORMATS, Format
from tailrace.spec.numerics import quantise

from ..simulate import simulate
from . import bench
from .bench import Matrix, Stalls, Vector

CONFIGS = [
    Config(f"{width}x{slots}", width, right_hand_sides=slots, vector_blocks=64)
    for width, slots in ((128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 4))
]
ONE_LANE = CONFIGS[0]
Job = tuple[Matrix, list[Vector]]


class Run:
    """Drives an engine with jobs and records, cycle by cycle, what it does.

    Parameters
    ----------
    i, o : float
        Share of cycles in which the side pauses.
    blocked : int
        Cycles at the start in which no result is taken.
    """

    def __init__(
        self, config: Config, jobs: list[Job], rng: np.random.Generator, i: float = 0, o: float = 0, blocked: int = 0
    ) -> None:
        self.config, self.jobs, self.rng, self.blocked = config, jobs, rng, blocked
        self.stall_i, self.stall_o = Stalls(rng, i), Stalls(rng, o)
        self.beats = [b for m, _ in jobs for b in bench.stream(m, config.lanes, rng)]
        self.expected = [r for m, v in jobs for r in bench.results(m, v)]
        self.results: list[int] = []
        #: Cycles in which a beat, a result, the last beat of a command were taken.
        self.beat_cycles: list[int] = []
        self.result_cycles: list[int] = []
        self.taken_cycles: list[int] = []
        self.dut = GemvEngine(config)

    def check(self) -> "Run":
        simulate(self.dut, self.drive)
        assert [f"{r:08x}" for r in self.results] == [f"{r:08x}" for r in self.expected]
        ends = np.cumsum([m.format.matrix_beats(m.rows, m.blocks, self.config.lanes) for m, _ in self.jobs]) - 1
        assert self.taken_cycles == [self.beat_cycles[n] for n in ends]
        return self

    async def drive(self, ctx: bench.Context) -> None:
        dut = self.dut
        commands = [bench.command(m, v, self.config) for m, v in self.jobs]
        limit = 20 * (len(self.beats) + len(self.expected)) + self.blocked + 1000
        accepted = cycle = 0
        block: tuple[int, int] | None = None
        command_waits = beat_waits = False
        assert ctx.get(dut.idle)
        while len(self.results) < len(self.expected):
            assert cycle < limit, f"{len(self.results)} of {len(self.expected)} results after {cycle} cycles"
            self.set_vectors(ctx, block)
            # What is offered stays until it is taken.
            command_waits = accepted < len(commands) and (command_waits or not self.stall_i())
            beat_waits = len(self.beat_cycles) < len(self.beats) and (beat_waits or not self.stall_i())
            ctx.set(dut.command.valid, command_waits)
            if command_waits:
                ctx.set(dut.command.payload, commands[accepted])
            ctx.set(dut.i.valid, beat_waits)
            ctx.set(dut.i.payload, self.beats[len(self.beat_cycles)] if beat_waits else int(self.rng.integers(1 << 62)))
            ctx.set(dut.o.ready, cycle >= self.blocked and not self.stall_o())
            # From the cycle after `taken` on the memory holds the next job's vectors.
            block = (len(self.taken_cycles), ctx.get(dut.vector_block))
            assert ctx.get(dut.idle) == (len(self.results) == sum(m.rows * len(v) for m, v in self.jobs[:accepted]))
            if ctx.get(dut.taken):
                self.taken_cycles.append(cycle)
            if command_waits and ctx.get(dut.command.ready):
                accepted, command_waits = accepted + 1, False
            if beat_waits and ctx.get(dut.i.ready):
                self.beat_cycles.append(cycle)
                beat_waits = False
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                self.results.append(ctx.get(dut.o.payload))
                self.result_cycles.append(cycle)
            await ctx.tick()
            cycle += 1
        assert len(self.beat_cycles) == len(self.beats)
        ctx.set(dut.i.valid, 1)
        for _ in range(dut.latency + 5):
            assert ctx.get(dut.idle)
            assert not ctx.get(dut.i.ready)
            assert not ctx.get(dut.o.valid)
            await ctx.tick()

    def set_vectors(self, ctx: bench.Context, read: tuple[int, int] | None) -> None:
        """A vector memory with a latency of one cycle. Blocks and slots that do not matter hold anything."""
        if read is None:
            return
        job, block = read
        vectors = self.jobs[job][1] if job < len(self.jobs) else []
        for slot in range(self.config.right_hand_sides):
            if slot < len(vectors) and block < len(vectors[slot].exponents):
                ctx.set(self.dut.vector[slot], vectors[slot].block(block))
            else:
                ctx.set(self.dut.vector[slot], bench.random_vector(self.rng, 1).block(0))


def draw(rng: np.random.Generator, shapes: list[tuple[Format, int, int, int]]) -> list[Job]:
    """Jobs of random contents from formats, rows, blocks and slots."""
    return [
        (bench.random_matrix(rng, format, rows, blocks), [bench.random_vector(rng, blocks) for _ in range(slots)])
        for format, rows, blocks, slots in shapes
    ]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize(("i", "o"), [(0, 0), (0.4, 0), (0, 0.6), (0.4, 0.4)])
def test_formats_follow_each_other(config: Config, i: float, o: float, rng: np.random.Generator) -> None:
    shapes = [
        (
            format,
            int(rng.integers(1, 3 * config.lanes + 1)),
            int(rng.integers(1, 12)),
            int(rng.integers(1, config.right_hand_sides + 1)),
        )
        for format in rng.permutation(np.array(FORMATS, dtype=object))
    ]
    Run(config, draw(rng, shapes), rng, i, o).check()


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("config", [CONFIGS[1], CONFIGS[4]], ids=lambda c: c.name)
def test_shapes(config: Config, format: Format, rng: np.random.Generator) -> None:
    """One row, one block, one less and one more than the lanes, the longest row."""
    slots = config.right_hand_sides
    shapes = [(1, 1), (1, 9), (config.lanes + 1, 1), (2 * config.lanes, 3), (max(config.lanes - 1, 1), 4), (1, 64)]
    Run(config, draw(rng, [(format, rows, blocks, slots) for rows, blocks in shapes]), rng).check()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_one_beat_a_cycle(config: Config, rng: np.random.Generator) -> None:
    """Across rows, commands and formats, as long as a row has as many beats as results."""
    blocks = max(config.lanes * config.right_hand_sides, 2)
    shapes = [(format, 2 * config.lanes + 1, blocks, config.right_hand_sides) for format in (*FORMATS, *FORMATS[::-1])]
    run = Run(config, draw(rng, shapes), rng).check()
    first = run.beat_cycles[0]
    assert run.beat_cycles == list(range(first, first + len(run.beats)))


def test_one_result_a_cycle(rng: np.random.Generator) -> None:
    """Rows of one block: the results are the bottleneck, and flow without a gap."""
    config = CONFIGS[5]
    run = Run(config, draw(rng, [(BY_NAME["Q4_0"], 40, 1, 4)]), rng).check()
    assert run.result_cycles == list(range(run.result_cycles[0], run.result_cycles[0] + 160))
    # With one result for a row, the beats are.
    run = Run(ONE_LANE, draw(rng, [(BY_NAME["Q4_0"], 64, 1, 1), (BY_NAME["Q4_1"], 3, 1, 1)]), rng).check()
    assert run.beat_cycles == list(range(run.beat_cycles[0], run.beat_cycles[0] + len(run.beats)))


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[4]], ids=lambda c: c.name)
@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_latency(config: Config, format: Format, rng: np.random.Generator) -> None:
    run = Run(config, draw(rng, [(format, 1, 2, 1)]), rng).check()
    assert run.result_cycles == [run.beat_cycles[-1] + GemvEngine.latency]


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[3]], ids=lambda c: c.name)
def test_beats_wait_while_results_are_blocked(config: Config, rng: np.random.Generator) -> None:
    groups = 2 * GROUPS
    shapes = [(BY_NAME["Q4_0"], groups * config.lanes, 1, 1)]
    blocked = 3 * groups + 200
    run = Run(config, draw(rng, shapes), rng, blocked=blocked).check()
    taken = sum(cycle < blocked for cycle in run.beat_cycles)
    assert GROUPS < taken < len(run.beats)
    # Nothing moves any more well before the results are taken.
    assert run.beat_cycles[taken - 1] < blocked - 100


#: Zeros, subnormals, the largest, infinities and NaNs (by the formula), with both signs.
EXTREME_SCALES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x8400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7FFF, 0xFFFF]


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_extreme_scales(format: Format, rng: np.random.Generator) -> None:
    config = CONFIGS[3]
    matrix, vectors = draw(rng, [(format, 40, 3, 2)])[0]
    matrix.scales[:] = rng.choice(EXTREME_SCALES, matrix.scales.shape)
    matrix.minima[:] = rng.choice(EXTREME_SCALES, matrix.minima.shape)
    # Results that overflow, and that are below the smallest normal number.
    jobs = [(matrix, [Vector(base, v.exponents, v.mantissas) for v, base in zip(vectors, bases, strict=True)])
            for bases in ((83, -172), (60, -120), (-90, -150))]  # fmt: skip
    run = Run(config, jobs, rng).check()
    for bits in (0, 0x7F800000, 0xFF800000):
        assert bits in run.results


def test_terms_that_cancel(rng: np.random.Generator) -> None:
    """A small rest of large terms of opposite sign, and a sum that is exactly zero."""
    matrix = bench.random_matrix(rng, BY_NAME["Q4_1"], 4, 4)
    matrix.codes[:, 2:] = matrix.codes[:, :2]
    matrix.scales[:, 2:] = matrix.scales[:, :2] ^ 0x8000
    matrix.minima[:, 2:] = matrix.minima[:, :2] ^ 0x8000
    matrix.minima[1:, 3] ^= 1
    vector = bench.random_vector(rng, 4)
    vector.exponents[2:], vector.mantissas[2:] = vector.exponents[:2], vector.mantissas[:2]
    run = Run(ONE_LANE, [(matrix, [vector])], rng).check()
    assert run.results[0] == 0
    assert all(run.results[1:])


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_real_numbers(format: Format, rng: np.random.Generator) -> None:
    """Activations and weights as they occur: the result is the float64 dot product to one rounding."""
    config = CONFIGS[2]
    x = rng.standard_normal(32 * 6).astype(np.float32)
    base, exponents, mantissas = quantise(x)
    matrix = bench.random_matrix(rng, format, 5, 6)
    matrix.scales[:] = rng.uniform(0.001, 0.02, matrix.scales.shape).astype(np.float16).view(np.uint16)
    matrix.minima[:] = rng.uniform(-0.2, 0.0, matrix.minima.shape).astype(np.float16).view(np.uint16)
    vector = Vector(base, exponents, mantissas.astype(int))
    run = Run(config, [(matrix, [vector])], rng).check()
    weights = (matrix.codes - format.code_offset) * matrix.scales.astype(np.uint16).view(np.float16).astype(float)[..., None]
    if format.has_minimum:
        weights += matrix.minima.astype(np.uint16).view(np.float16).astype(float)[..., None]
    activations = np.ldexp(vector.mantissas.astype(float), base + exponents.astype(int)[:, None])
    exact = (weights * activations).sum(axis=(1, 2))
    got: Any = np.array(run.results, dtype=np.uint32).view(np.float32)
    assert np.abs(got - exact).max() <= np.abs(exact).max() * 2.0**-24
