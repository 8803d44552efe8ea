import random

import pytest
from amaranth.sim import Simulator

from tailrace.hdl.axi.signature import Response
from tailrace.hdl.axi.write_master import BURST_BEATS, WriteMaster
from tailrace.spec.config import Config
from verification.unit.hdl.axi.memory import WriteMemory


class Bench:
    """A write master, a memory, a source of requests and a source of values that pauses with probability `stall`."""

    def __init__(
        self, bus_width: int, latency: int = 2, memory_stall: float = 0, stall: float = 0, seed: int = 0, **memory
    ) -> None:
        self.config, self.stall, self.seed = Config("test", bus_width), stall, seed
        self.dut = WriteMaster(self.config)
        self.memory = WriteMemory(self.dut.axi, bus_width, BURST_BEATS, latency, memory_stall, seed, **memory)
        self.random = random.Random(seed + 1)
        self.values: list[int] = []
        self.taken_cycles: list[int] = []
        self.cycle = 0

    def requests_of(self, lengths) -> list[tuple[int, int, int]]:
        """Requests of these lengths at random places that do not overlap."""
        span = -(-max(lengths) * 4 // 4096) * 4096 + 4096
        places = self.random.sample(range(1 << 16), len(lengths))
        return [
            (place * span + 64 * self.random.randrange(64), length, self.random.randrange(1 << 16))
            for place, length in zip(places, lengths, strict=True)
        ]

    def give(self, count: int) -> list[int]:
        """Have `count` random values written."""
        values = [self.random.getrandbits(32) for _ in range(count)]
        self.values += values
        return values

    def expected(self, requests, values) -> dict[int, int]:
        source = iter(values)
        return {
            address + 4 * n + k: byte
            for address, entries, _ in requests
            for n in range(entries)
            for k, byte in enumerate(next(source).to_bytes(4, "little"))
        }

    async def send(self, ctx, requests) -> None:
        for address, entries, command in requests:
            ctx.set(self.dut.request.payload, {"address": address, "entries": entries, "command": command})
            ctx.set(self.dut.request.valid, 1)
            await ctx.tick().until(self.dut.request.ready)
            ctx.set(self.dut.request.valid, 0)

    async def feed(self, ctx) -> None:
        i, offered = self.dut.i, False
        while True:
            offered = bool(self.values) and (offered or self.random.random() >= self.stall)
            ctx.set(i.valid, offered)
            if offered:
                ctx.set(i.payload, self.values[0])
            _, _, ready = await ctx.tick().sample(i.ready)
            if offered and ready:
                self.values.pop(0)
                self.taken_cycles.append(self.cycle)
                offered = False
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
        sim.add_testbench(self.feed, background=True)
        sim.add_testbench(story)
        sim.run()


@pytest.mark.parametrize("bus_width", [128, 256, 512])
@pytest.mark.parametrize(
    ("memory_stall", "stall", "data_first"), [(0, 0, False), (0.6, 0, False), (0, 0.5, True), (0.6, 0.4, False), (0.8, 0, True)]
)
def test_every_value_in_its_place(bus_width, memory_stall, stall, data_first):
    bench = Bench(bus_width, 9, memory_stall, stall, seed=bus_width, data_first=data_first)
    requests = bench.requests_of([1, 1, 2, bus_width // 32, 300, 65, *(bench.random.randint(1, 200) for _ in range(10))])
    values = bench.give(sum(entries for _, entries, _ in requests))

    async def story(ctx):
        await bench.send(ctx, requests)
        await ctx.tick()
        await bench.until_idle(ctx)
        assert bench.memory.answered == len(bench.memory.bursts)

    bench.run(story)
    assert bench.memory.bytes == bench.expected(requests, values), f"seed {bench.seed}"


@pytest.mark.parametrize("bus_width", [128, 256, 512])
def test_a_value_every_cycle(bus_width):
    """Also across requests, and though each answer takes 100 cycles."""
    bench = Bench(bus_width, latency=100)
    requests = bench.requests_of([512, 64, 77, 512, 130])
    values = bench.give(sum(entries for _, entries, _ in requests))

    async def story(ctx):
        await bench.send(ctx, requests)
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.memory.bytes == bench.expected(requests, values)
    assert bench.taken_cycles[-1] - bench.taken_cycles[0] == len(values) - 1


def test_latency():
    bench = Bench(128)
    bench.give(1)

    async def story(ctx):
        await bench.send(ctx, [(0x40, 1, 0)])
        await ctx.tick()
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.taken_cycles == [2]
    assert bench.memory.ask_cycles == [5]
    assert bench.memory.beat_cycles == [5]


@pytest.mark.parametrize("response", [Response.SLVERR, Response.DECERR])
def test_the_first_error_is_reported(response):
    bench = Bench(128, 9, 0.3, 0.3)
    requests = bench.requests_of([300, 300])
    address, _, command = requests[1]
    failing = address // 256 * 256 + 512
    bench.memory.errors = {failing: response, failing + 256: Response.DECERR}
    values = bench.give(600)

    async def story(ctx):
        await bench.send(ctx, requests)
        await ctx.tick()
        await bench.until_idle(ctx)
        assert ctx.get(bench.dut.error) == 1
        assert ctx.get(bench.dut.error_address) == failing
        assert ctx.get(bench.dut.error_command) == command
        ctx.set(bench.dut.flush, 1)
        await ctx.tick()
        ctx.set(bench.dut.flush, 0)
        assert ctx.get(bench.dut.error) == 0

    bench.run(story)
    assert bench.memory.bytes == bench.expected(requests, values)


def test_an_exclusive_okay_is_no_error():
    bench = Bench(128)
    bench.memory.errors = {0: Response.EXOKAY}
    bench.give(1)

    async def story(ctx):
        await bench.send(ctx, [(0, 1, 0)])
        await ctx.tick()
        await bench.until_idle(ctx)
        assert ctx.get(bench.dut.error) == 0

    bench.run(story)


@pytest.mark.parametrize("moment", [0, 2, 3, 17, 67, 68, 69, 70, 100, 333])
@pytest.mark.parametrize(("memory_stall", "stall", "data_first"), [(0, 0, False), (0.7, 0.2, False), (0.7, 0, True)])
def test_flush_at_any_moment(moment, memory_stall, stall, data_first):
    """The bus is left in order, nothing of the old requests is written later, and the next ones work."""
    bench = Bench(128, 20, memory_stall, stall, seed=moment, data_first=data_first)
    requests = bench.requests_of([100, 1, 300, 7])
    later = bench.requests_of([70, 3])
    old = bench.give(408)
    fresh: list[int] = []

    async def flush(ctx):
        for _ in range(moment):
            await ctx.tick()
        ctx.set(bench.dut.flush, 1)
        # Values that are still to come are taken and dropped.
        while bench.values or not ctx.get(bench.dut.idle):
            await ctx.tick()
        assert not ctx.get(bench.dut.axi.aw.valid)
        assert not ctx.get(bench.dut.axi.w.valid)
        assert bench.memory.answered == len(bench.memory.bursts)
        ctx.set(bench.dut.flush, 0)

    async def story(ctx):
        await flush(ctx)
        fresh.extend(bench.give(73))
        await bench.send(ctx, later)
        await ctx.tick()
        await bench.until_idle(ctx)

    async def source(ctx):
        for request in requests:
            if not ctx.get(bench.dut.flush):
                await bench.send(ctx, [request])

    sim = Simulator(bench.dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench.memory.run, background=True)
    sim.add_testbench(bench.feed, background=True)
    sim.add_testbench(source, background=True)
    sim.add_testbench(story)
    sim.run()
    written = bench.expected(later, fresh)
    before = {a: v for a, v in bench.memory.bytes.items() if a not in written}
    assert written.items() <= bench.memory.bytes.items(), f"seed {bench.seed}"
    assert before.items() <= bench.expected(requests, old).items(), f"seed {bench.seed}"
