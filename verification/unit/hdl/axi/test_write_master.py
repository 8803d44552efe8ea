import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from tailrace.hdl.axi.signature import Response
from tailrace.hdl.axi.write_master import WRITES_IN_FLIGHT, WriteMaster
from tailrace.spec.config import Config
from verification.unit.hdl.axi.memory import WriteMemory


class Bench:
    """A write master, a memory, and a source of beats that pauses with probability `stall`."""

    def __init__(
        self, bus_width: int, latency: int = 2, memory_stall: float = 0, stall: float = 0, seed: int = 0, **memory: Any
    ) -> None:
        self.bus_bytes, self.stall, self.seed = bus_width // 8, stall, seed
        self.dut = WriteMaster(Config("test", bus_width))
        self.memory = WriteMemory(self.dut.axi, bus_width, 1, latency, memory_stall, seed, **memory)
        self.random = random.Random(seed + 1)
        self.taken_cycles: list[int] = []
        self.cycle = 0

    def beats(self, count: int) -> list[dict[str, int]]:
        """Random beats at places of their own."""
        places = self.random.sample(range(1 << 20), count)
        return [
            {
                "address": place * self.bus_bytes,
                "data": self.random.getrandbits(8 * self.bus_bytes),
                "strobe": self.random.getrandbits(self.bus_bytes),
                "command": self.random.randrange(1 << 16),
            }
            for place in places
        ]

    def expected(self, beats: list[dict[str, int]]) -> dict[int, int]:
        return {
            beat["address"] + n: beat["data"] >> 8 * n & 0xFF
            for beat in beats
            for n in range(self.bus_bytes)
            if beat["strobe"] >> n & 1
        }

    async def send(self, ctx: Any, beats: list[dict[str, int]]) -> None:
        i = self.dut.i
        for beat in beats:
            while self.random.random() < self.stall:
                await ctx.tick()
                self.cycle += 1
            ctx.set(i.payload, beat)
            ctx.set(i.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(i.ready)
                self.cycle += 1
            self.taken_cycles.append(self.cycle)
            ctx.set(i.valid, 0)

    async def until_idle(self, ctx: Any, limit: int = 20000) -> None:
        for _ in range(limit):
            if (await ctx.tick().sample(self.dut.idle))[2]:
                return
        raise AssertionError(f"not idle after {limit} cycles (seed {self.seed})")

    def run(self, story: Any) -> None:
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        sim.add_testbench(self.memory.run, background=True)
        sim.add_testbench(story)
        sim.run()


@pytest.mark.parametrize("bus_width", [128, 256, 512])
@pytest.mark.parametrize(
    ("memory_stall", "stall", "data_first"), [(0, 0, False), (0.6, 0, False), (0, 0.5, True), (0.6, 0.4, False), (0.8, 0, True)]
)
def test_every_byte_in_its_place(bus_width: int, memory_stall: float, stall: float, data_first: bool) -> None:
    bench = Bench(bus_width, 9, memory_stall, stall, seed=bus_width, data_first=data_first)
    beats = bench.beats(150)

    async def story(ctx: Any) -> None:
        await bench.send(ctx, beats)
        await bench.until_idle(ctx)
        assert bench.memory.answered == len(bench.memory.bursts) == len(beats)

    bench.run(story)
    assert bench.memory.bytes == bench.expected(beats), f"seed {bench.seed}"


@pytest.mark.parametrize(("latency", "outstanding"), [(WRITES_IN_FLIGHT - 4, False), (200, True)])
def test_a_beat_every_cycle(latency: int, outstanding: bool) -> None:
    """As long as no more beats are unanswered than it can remember."""
    bench = Bench(128, latency=latency)
    beats = bench.beats(300)

    async def story(ctx: Any) -> None:
        await bench.send(ctx, beats)
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.memory.bytes == bench.expected(beats)
    taken = bench.taken_cycles[-1] - bench.taken_cycles[0]
    assert (taken > 299) if outstanding else (taken == 299)


def test_latency() -> None:
    bench = Bench(128)

    async def story(ctx: Any) -> None:
        await bench.send(ctx, bench.beats(1))
        await bench.until_idle(ctx)
        assert bench.memory.answered == 1

    bench.run(story)
    # Taken in cycle 0.
    assert bench.memory.ask_cycles == [WriteMaster.latency]
    assert bench.memory.beat_cycles == [WriteMaster.latency]


@pytest.mark.parametrize("response", [Response.SLVERR, Response.DECERR])
def test_the_first_error_is_reported(response: Response) -> None:
    bench = Bench(128, 9, 0.3, 0.3)
    beats = bench.beats(60)
    bench.memory.errors = {beats[20]["address"]: response, beats[21]["address"]: Response.DECERR}

    async def story(ctx: Any) -> None:
        await bench.send(ctx, beats)
        await bench.until_idle(ctx)
        assert ctx.get(bench.dut.error.valid) == 1
        assert ctx.get(bench.dut.error.address) == beats[20]["address"]
        assert ctx.get(bench.dut.error.command) == beats[20]["command"]
        ctx.set(bench.dut.flush, 1)
        await ctx.tick()
        ctx.set(bench.dut.flush, 0)
        assert ctx.get(bench.dut.error.valid) == 0

    bench.run(story)
    assert bench.memory.bytes == bench.expected(beats)


@pytest.mark.parametrize(("memory_stall", "stall"), [(0, 0), (0.6, 0.3)])
@pytest.mark.parametrize("first", [0, 1, (1 << 38) // 4096, (1 << 28) - 4])
def test_memory_that_may_be_used(memory_stall: float, stall: float, first: int) -> None:
    """Addresses count from a page anywhere; what lies outside is not written, and is an error after all before it."""
    bench = Bench(128, 9, memory_stall, stall, seed=first % 97)
    last = 3
    beats = bench.beats(60)
    places = bench.random.sample(range((last + 1) * 4096 // 16), len(beats))
    for beat, place in zip(beats, places, strict=True):
        beat["address"] = 16 * place
    beats[20]["address"] = 4096 * (last + 1)
    beats[30]["address"] = (1 << 40) - 16
    inside = [beat | {"address": beat["address"] + 4096 * first} for n, beat in enumerate(beats) if n not in (20, 30)]

    async def story(ctx: Any) -> None:
        ctx.set(bench.dut.first_page, first)
        ctx.set(bench.dut.last_page, last)
        await bench.send(ctx, beats[:21])
        while not ctx.get(bench.dut.error.valid):
            await ctx.tick()
        # Dropped when those before it were answered.
        assert bench.memory.answered == 20
        assert ctx.get(bench.dut.error.valid) == 1
        await bench.send(ctx, beats[21:])
        await bench.until_idle(ctx)
        assert ctx.get(bench.dut.error.valid) == 1
        assert ctx.get(bench.dut.error.address) == beats[20]["address"]
        assert ctx.get(bench.dut.error.command) == beats[20]["command"]
        ctx.set(bench.dut.flush, 1)
        await ctx.tick()
        ctx.set(bench.dut.flush, 0)
        await bench.send(ctx, [beats[30]])
        await bench.until_idle(ctx)
        assert ctx.get(bench.dut.error.address) == beats[30]["address"]

    bench.run(story)
    assert bench.memory.bytes == bench.expected(inside), f"seed {bench.seed}"


def test_a_memory_error_goes_before_a_beat_outside_that_comes_after_it() -> None:
    bench = Bench(128, 20)
    beats = bench.beats(3)
    beats[2]["address"] = 1 << 39
    bench.memory.errors = {beats[0]["address"]: Response.SLVERR}

    async def story(ctx: Any) -> None:
        ctx.set(bench.dut.last_page, (1 << 24) // 4096 - 1)
        await bench.send(ctx, beats)
        await bench.until_idle(ctx)
        assert ctx.get(bench.dut.error.address) == beats[0]["address"]

    bench.run(story)


def test_an_exclusive_okay_is_no_error() -> None:
    bench = Bench(128)
    beats = bench.beats(1)
    bench.memory.errors = {beats[0]["address"]: Response.EXOKAY}

    async def story(ctx: Any) -> None:
        await bench.send(ctx, beats)
        await bench.until_idle(ctx)
        assert ctx.get(bench.dut.error.valid) == 0

    bench.run(story)


@pytest.mark.parametrize("moment", [0, 1, 2, 17, 40, 70])
@pytest.mark.parametrize(("memory_stall", "data_first"), [(0, False), (0.7, True)])
def test_flush_at_any_moment(moment: int, memory_stall: float, data_first: bool) -> None:
    """The bus is left in order, what was taken before is written, nothing after that is, and the next beats are again."""
    bench = Bench(128, 20, memory_stall, 0.1, seed=moment, data_first=data_first)
    old, dropped, later = bench.beats(moment), bench.beats(5), bench.beats(30)

    async def story(ctx: Any) -> None:
        await bench.send(ctx, old)
        ctx.set(bench.dut.flush, 1)
        await bench.send(ctx, dropped)
        await bench.until_idle(ctx)
        assert not ctx.get(bench.dut.axi.aw.valid)
        assert not ctx.get(bench.dut.axi.w.valid)
        assert bench.memory.answered == len(bench.memory.bursts) == len(old)
        ctx.set(bench.dut.flush, 0)
        await bench.send(ctx, later)
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.memory.bytes == bench.expected(old) | bench.expected(later), f"seed {bench.seed}"
