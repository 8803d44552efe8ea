import random

import pytest
from amaranth.sim import Simulator

from tailrace.hdl.axi.read_master import ReadMaster
from tailrace.hdl.axi.signature import ReadKind
from tailrace.spec.config import Config
from verification.unit.hdl.axi.memory import ReadMemory, beat_data


class Bench:
    """A read master, a memory, a source of requests and a reader that pauses with probability `stall`."""

    def __init__(self, config: Config, latency: int = 2, memory_stall: float = 0, stall: float = 0, seed: int = 0) -> None:
        self.config, self.stall, self.seed = config, stall, seed
        self.dut = ReadMaster(config)
        self.memory = ReadMemory(self.dut.axi, config.bus_width, config.burst_beats, latency, memory_stall, seed)
        self.received: list[tuple[int, ReadKind, int]] = []
        self.cycles: list[int] = []
        self.facts: list[tuple[int, ReadKind, int, int]] = []
        self.cycle = 0
        self.reading = True
        self.random = random.Random(seed + 1)

    def expected(self, requests) -> list[tuple[int, ReadKind, int]]:
        size = self.config.bus_bytes
        return [
            (beat_data(address + n * size, self.config.bus_width), kind, n == beats - 1)
            for address, beats, kind, _ in requests
            for n in range(beats)
        ]

    def random_requests(self, count: int, longest: int) -> list[tuple[int, int, ReadKind, int]]:
        return [
            (
                64 * self.random.randrange(1 << self.config.address_width - 7),
                self.random.choice((1, 2, 3, self.random.randint(1, longest))),
                self.random.choice(list(ReadKind)),
                self.random.randrange(1 << 16),
            )
            for _ in range(count)
        ]

    async def send(self, ctx, requests, pause: float = 0) -> None:
        for address, beats, kind, command in requests:
            while self.random.random() < pause:
                await ctx.tick()
            ctx.set(self.dut.i.payload, {"address": address, "beats": beats, "kind": kind, "command": command})
            ctx.set(self.dut.i.valid, 1)
            await ctx.tick().until(self.dut.i.ready)
            ctx.set(self.dut.i.valid, 0)

    async def read(self, ctx) -> None:
        o = self.dut.o
        dut = self.dut
        while True:
            ctx.set(o.ready, self.reading and self.random.random() >= self.stall)
            _, _, valid, ready, beat, *facts = await ctx.tick().sample(
                o.valid, o.ready, o.payload, dut.beat, dut.beat_kind, dut.waiting, dut.blocked
            )
            self.facts.append(tuple(facts))
            if valid and ready:
                self.received.append((beat.data, beat.kind, beat.last))
                self.cycles.append(self.cycle)
            self.cycle += 1

    async def until_idle(self, ctx, limit: int = 20000) -> None:
        for _ in range(limit):
            if (await ctx.tick().sample(self.dut.idle))[2]:
                return
        raise AssertionError(f"not idle after {limit} cycles (seed {self.seed})")

    def run(self, story) -> None:
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        sim.add_testbench(self.memory.run, background=True)
        sim.add_testbench(self.read, background=True)
        sim.add_testbench(story)
        sim.run()


CONFIGS = [
    Config("small", 128, read_fifo_beats=32, burst_beats=16),
    Config("middle", 256, read_fifo_beats=64, burst_beats=32),
    Config("large", 512, read_fifo_beats=128, burst_beats=64, address_width=64),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize(("memory_stall", "stall", "pause"), [(0, 0, 0), (0.3, 0, 0), (0, 0.5, 0), (0.4, 0.4, 0.9)])
def test_every_beat_in_order(config, memory_stall, stall, pause):
    seed = hash((config.bus_width, memory_stall, stall)) & 0xFFFF
    bench = Bench(config, 7, memory_stall, stall, seed)
    requests = bench.random_requests(40, 150)

    async def story(ctx):
        await bench.send(ctx, requests, pause)
        await ctx.tick()
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.received == bench.expected(requests), f"seed {seed}"


def test_no_bubble():
    bench = Bench(Config("latency", 128), latency=447)
    requests = [(0x40, 3000, ReadKind.WEIGHT, 0)]

    async def story(ctx):
        await bench.send(ctx, requests)
        await ctx.tick()
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.received == bench.expected(requests)
    assert bench.cycles[-1] - bench.cycles[0] == len(bench.cycles) - 1
