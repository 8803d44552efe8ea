import numpy as np
import pytest

from tailrace.hdl.gemv.engine import GemvEngine
from tailrace.spec.config import Config
from tailrace.spec.formats import BY_NAME, FORMATS

from . import bench
from .bench import Matrix, Stalls, Vector

CONFIGS = [
    Config(f"{width}x{slots}", width, right_hand_sides=slots, vector_blocks=64)
    for width, slots in ((128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 4))
]


class Run:
    """Drives an engine with jobs and records what it does, cycle by cycle."""

    def __init__(
        self, config: Config, jobs: list[tuple[Matrix, list[Vector]]], rng: np.random.Generator, i: float = 0, o: float = 0
    ) -> None:
        self.config, self.jobs, self.rng = config, jobs, rng
        self.stall_i, self.stall_o = Stalls(rng, i), Stalls(rng, o)
        self.dut = GemvEngine(config)
        self.results: list[int] = []
        self.beat_cycles: list[int] = []
        self.result_cycles: list[int] = []
        self.taken_cycles: list[int] = []
        self.idle_after = False
        self.limit = 20 * sum(len(bench.stream(m, config.lanes)) + m.rows * len(v) for m, v in jobs) + 1000

    async def drive(self, ctx: bench.Context) -> None:
        dut, config = self.dut, self.config
        commands = [bench.command(m, v, config) for m, v in self.jobs]
        beats = [(b, n) for n, (m, _) in enumerate(self.jobs) for b in bench.stream(m, config.lanes)]
        expected = sum(m.rows * len(v) for m, v in self.jobs)
        command, beat, cycle, job = 0, 0, 0, 0
        block: tuple[int, int] | None = None
        pause = False
        assert ctx.get(dut.idle)
        while len(self.results) < expected:
            assert cycle < self.limit, f"{len(self.results)} of {expected} results after {cycle} cycles"
            # A vector memory with a latency of one cycle, whose content changes as soon as a command was taken.
            if block is not None:
                vectors = self.jobs[block[0]][1] if block[0] < len(self.jobs) else []
                for slot in range(config.right_hand_sides):
                    known = slot < len(vectors) and block[1] < len(vectors[slot].exponents)
                    noise = Vector(0, np.array([9]), self.rng.integers(-32768, 32768, (1, 32)))
                    ctx.set(dut.vector[slot], vectors[slot].block(block[1]) if known else noise.block(0))
            ctx.set(dut.command.valid, command < len(commands))
            if command < len(commands):
                ctx.set(dut.command.payload, commands[command])
            # A valid beat stays until it is taken.
            if not pause:
                pause = self.stall_i()
            offered = beat < len(beats) and not pause
            ctx.set(dut.i.valid, offered)
            ctx.set(dut.i.payload, beats[beat][0] if offered else int(self.rng.integers(1 << 62)))
            ctx.set(dut.o.ready, not self.stall_o())
            block = (job, ctx.get(dut.vector_block))
            if ctx.get(dut.taken):
                self.taken_cycles.append(cycle)
                job += 1
            if ctx.get(dut.command.valid) and ctx.get(dut.command.ready):
                command += 1
            if offered and ctx.get(dut.i.ready):
                beat += 1
                self.beat_cycles.append(cycle)
                pause = False
            elif not offered:
                pause = False
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                self.results.append(ctx.get(dut.o.payload))
                self.result_cycles.append(cycle)
            if command < len(commands) or beat < len(beats) or len(self.results) < expected:
                assert cycle < 3 or not ctx.get(dut.idle) or command < len(commands)
            await ctx.tick()
            cycle += 1
        ctx.set(dut.i.valid, 0)
        assert beat == len(beats)
        for _ in range(40):
            assert not ctx.get(dut.o.valid)
            await ctx.tick()
        assert ctx.get(dut.idle)

    def check(self) -> "Run":
        bench.simulate(self.dut, self.drive)
        expected = [r for m, v in self.jobs for r in bench.results(m, v)]
        assert [f"{r:08x}" for r in self.results] == [f"{r:08x}" for r in expected]
        assert len(self.taken_cycles) == len(self.jobs)
        return self


def jobs(
    rng: np.random.Generator, config: Config, shapes: list[tuple[str, int, int, int]]
) -> list[tuple[Matrix, list[Vector]]]:
    return [
        (bench.random_matrix(rng, BY_NAME[name], rows, blocks), [bench.random_vector(rng, blocks) for _ in range(slots)])
        for name, rows, blocks, slots in shapes
    ]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize(("i", "o"), [(0, 0), (0.4, 0.4)], ids=["flowing", "stalled"])
def test_every_format_back_to_back(config: Config, i: float, o: float, rng: np.random.Generator) -> None:
    shapes = [
        (
            f.name,
            int(rng.integers(1, 3 * config.lanes + 1)),
            int(rng.integers(1, 12)),
            int(rng.integers(1, config.right_hand_sides + 1)),
        )
        for f in FORMATS
    ]
    Run(config, jobs(rng, config, shapes), rng, i, o).check()
