import random
from typing import Any

import pytest
from amaranth.back import rtlil
from amaranth.sim import Simulator

from tailrace.hdl.axi.signature import Response
from tailrace.hdl.axi.write_channels import WriteChannels
from tailrace.hdl.axi.write_master import WRITES_IN_FLIGHT, WriteMaster
from tailrace.spec.config import Config
from verification.unit.hdl.axi.memory import WriteMemory
from verification.unit.hdl.axi.stripes import channel_of, place_of

CONFIGS = [Config("two", 128, channels=2), Config("four", 128, channels=4), Config("two of 256", 256, channels=2)]
ALL = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
#: Latency and stalls of each channel: alike, far apart, or at random.
MEMORIES = {
    "alike": ([9] * 4, [0.0] * 4),
    "apart": ([3, 150, 40, 9], [0.0] * 4),
    "random": ([3, 40, 5, 9], [0.3, 0.1, 0.7, 0.0]),
}
EACH = pytest.mark.parametrize("memories", MEMORIES)


class Bench:
    """Channels, a memory for each, and a source of beats that pauses with probability `stall`."""

    def __init__(self, config: Config, memories: str = "alike", stall: float = 0.0, seed: int = 0) -> None:
        self.config, self.stall, self.seed, self.random = config, stall, seed, random.Random(seed)
        self.dut = WriteChannels(config)
        latencies, stalls = MEMORIES[memories]
        self.memories = [
            WriteMemory(self.dut.axi[n], config.bus_width, 1, latencies[n], stalls[n], seed + n) for n in range(config.channels)
        ]
        self.written = 0

    def beats(self, count: int) -> list[dict[str, int]]:
        """Random beats at places of their own: most of a few bytes in one channel, some of bytes anywhere."""
        size, part = self.config.beat_bytes, self.config.bus_bytes
        return [
            {
                "address": place * size,
                "data": self.random.getrandbits(8 * size),
                "strobe": self.random.choice(
                    (
                        3 << self.random.randrange(size - 1),
                        self.random.getrandbits(size) or 1,
                        (1 << part) - 1 << part * self.random.randrange(self.config.channels),
                    )
                ),
                "command": self.random.randrange(1 << 16),
            }
            for place in self.random.sample(range(1 << 20), count)
        ]

    def expected(self, beats: list[dict[str, int]]) -> dict[int, int]:
        return {
            beat["address"] + n: beat["data"] >> 8 * n & 0xFF
            for beat in beats
            for n in range(self.config.beat_bytes)
            if beat["strobe"] >> n & 1
        }

    def found(self) -> dict[int, int]:
        """What was written, by its place in the device's memory."""
        return {
            place_of(n, address, self.config.bus_bytes, self.config.channels): byte
            for n, memory in enumerate(self.memories)
            for address, byte in memory.bytes.items()
        }

    def parts(self, beat: dict[str, int]) -> list[int]:
        """Channels that a beat is for."""
        size = self.config.bus_bytes
        return [n for n in range(self.config.channels) if beat["strobe"] >> n * size & (1 << size) - 1]

    def fail(self, beat: dict[str, int], part: int, response: Response = Response.SLVERR) -> None:
        """Let a part of a beat fail."""
        place = beat["address"] + part * self.config.bus_bytes
        channel, address = channel_of(place, self.config.bus_bytes, self.config.channels)
        assert channel == part
        self.memories[channel].errors[address] = response

    async def send(self, ctx: Any, beats: list[dict[str, int]]) -> None:
        i = self.dut.i
        for beat in beats:
            while self.random.random() < self.stall:
                await ctx.tick()
            ctx.set(i.payload, beat)
            ctx.set(i.valid, 1)
            await ctx.tick().until(i.ready)
            ctx.set(i.valid, 0)

    async def count(self, ctx: Any) -> None:
        async for _, _, beat in ctx.tick().sample(self.dut.beat):
            self.written += beat

    async def until_idle(self, ctx: Any, limit: int = 20000) -> None:
        for _ in range(limit):
            if (await ctx.tick().sample(self.dut.idle))[2]:
                return
        raise AssertionError(f"not idle after {limit} cycles (seed {self.seed})")

    def run(self, story: Any) -> None:
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        for testbench in (*(memory.run for memory in self.memories), self.count):
            sim.add_testbench(testbench, background=True)
        sim.add_testbench(story)
        sim.run()


@ALL
@EACH
@pytest.mark.parametrize("stall", [0, 0.4])
def test_every_byte_in_its_place(config: Config, memories: str, stall: float, seed: int) -> None:
    """And a channel is written to only where bytes of its own are."""
    bench = Bench(config, memories, stall, seed)
    beats = bench.beats(150)

    async def story(ctx: Any) -> None:
        await bench.send(ctx, beats)
        await bench.until_idle(ctx)
        assert [memory.answered for memory in bench.memories] == [
            sum(n in bench.parts(beat) for beat in beats) for n in range(config.channels)
        ]

    bench.run(story)
    assert bench.found() == bench.expected(beats), f"seed {seed}"
    assert bench.written == len(beats)


@ALL
def test_a_beat_every_cycle(config: Config) -> None:
    bench = Bench(config)
    for memory, latency in zip(bench.memories, (50, 9, 30, 1), strict=False):
        memory.latency = latency
    beats, cycles = bench.beats(300), []

    async def story(ctx: Any) -> None:
        ctx.set(bench.dut.i.valid, 1)
        for beat in beats:
            ctx.set(bench.dut.i.payload, beat)
            cycles.append((await ctx.tick().sample(bench.dut.i.ready))[2])
        ctx.set(bench.dut.i.valid, 0)
        await bench.until_idle(ctx)

    bench.run(story)
    assert all(cycles)
    assert bench.found() == bench.expected(beats)


@ALL
@EACH
@pytest.mark.parametrize("number", range(4))
def test_the_first_beat_that_fails_is_the_error(config: Config, memories: str, number: int, seed: int) -> None:
    """Whichever channel answers first; a beat outside is one like others."""
    chance = random.Random(f"{seed} {number}")
    bench = Bench(config, memories, 0.2, chance.randrange(1 << 16))
    beats = bench.beats(40)
    failing = sorted(chance.sample(range(40), 3))
    for n in failing[:2]:
        bench.fail(beats[n], chance.choice(bench.parts(beats[n])), chance.choice((Response.SLVERR, Response.DECERR)))
    outside = 4096 * config.channels << 10
    if number % 2:
        beats[failing[2]]["address"] = outside
    first = beats[failing[0]]

    async def story(ctx: Any) -> None:
        ctx.set(bench.dut.last_page, (1 << 28 - 12) - 1)
        await bench.send(ctx, beats)
        await ctx.tick().until(bench.dut.error.valid)
        await ctx.tick().repeat(300)
        error = bench.dut.error
        assert (ctx.get(error.address), ctx.get(error.command)) == (first["address"], first["command"]), f"seed {bench.seed}"
        assert bench.written == failing[0]
        ctx.set(bench.dut.flush, 1)
        await ctx.tick().repeat(2)
        await bench.until_idle(ctx)
        ctx.set(bench.dut.flush, 0)
        assert not ctx.get(error.valid)
        for memory in bench.memories:
            memory.errors.clear()
        await bench.send(ctx, bench.beats(20))
        await bench.until_idle(ctx)
        assert not ctx.get(error.valid)

    bench.run(story)


@ALL
@EACH
def test_memory_that_may_be_used(config: Config, memories: str, seed: int) -> None:
    """Every channel counts from a page of its own; a beat behind the last page is not written."""
    bench = Bench(config, memories, 0.2, seed)
    first = [bench.random.randrange(1 << 27) for _ in range(config.channels)]
    beats, end = bench.beats(20), 4096 * config.channels
    for n, beat in enumerate(beats):
        beat["address"] = n * config.beat_bytes
    beats[15]["address"] = end

    async def story(ctx: Any) -> None:
        for n, page in enumerate(first):
            ctx.set(bench.dut.first_page[n], page)
        ctx.set(bench.dut.last_page, 0)
        await bench.send(ctx, beats)
        await ctx.tick().until(bench.dut.error.valid)
        await ctx.tick().repeat(200)
        assert (ctx.get(bench.dut.error.address), ctx.get(bench.dut.error.command)) == (end, beats[15]["command"])

    bench.run(story)
    size = config.bus_bytes
    found = {
        place_of(n, address - 4096 * first[n], size, config.channels): byte
        for n, memory in enumerate(bench.memories)
        for address, byte in memory.bytes.items()
    }
    assert found == bench.expected(beats[:15] + beats[16:]), f"seed {seed}"


@ALL
@EACH
@pytest.mark.parametrize("moment", [1, 17, 40])
def test_flush_at_any_moment(config: Config, memories: str, moment: int, seed: int) -> None:
    """What was taken before is written, nothing that is offered later is, and the next beats are again."""
    bench = Bench(config, memories, 0.1, seed + moment)
    old, dropped, later = bench.beats(moment), bench.beats(5), bench.beats(30)

    async def story(ctx: Any) -> None:
        await bench.send(ctx, old)
        ctx.set(bench.dut.flush, 1)
        await bench.send(ctx, dropped)
        await bench.until_idle(ctx)
        for memory in bench.memories:
            assert memory.answered == len(memory.bursts)
        ctx.set(bench.dut.flush, 0)
        await bench.send(ctx, later)
        await bench.until_idle(ctx)
        assert not ctx.get(bench.dut.error.valid)

    bench.run(story)
    assert bench.found() == bench.expected(old) | bench.expected(later), f"seed {bench.seed}"


@ALL
def test_flush_while_a_beat_is_taken_by_some(config: Config) -> None:
    """Channels that have it write their part, the others never do; the next beat is whole."""
    bench = Bench(config)
    blocked = bench.memories[-1]
    blocked.stall = 1.0
    full = (1 << config.beat_bytes) - 1
    beats = [beat | {"strobe": full} for beat in bench.beats(40)]

    async def story(ctx: Any) -> None:
        i = bench.dut.i
        taken = 0
        ctx.set(i.valid, 1)
        while taken < len(beats):
            ctx.set(i.payload, beats[taken])
            if not (await ctx.tick().sample(i.ready))[2]:
                break
            taken += 1
        await ctx.tick().repeat(200)
        ctx.set(bench.dut.flush, 1)
        await ctx.tick()
        ctx.set(i.valid, 0)
        blocked.stall = 0.0
        await ctx.tick()
        await bench.until_idle(ctx)
        ctx.set(bench.dut.flush, 0)
        counts = [memory.answered for memory in bench.memories]
        assert counts == [taken + 1] * (config.channels - 1) + [taken]
        await bench.send(ctx, [beats[-1]])
        await bench.until_idle(ctx)
        assert not ctx.get(bench.dut.error.valid)
        assert [memory.answered for memory in bench.memories] == [count + 1 for count in counts]

    bench.run(story)
    assert bench.expected([beats[-1]]).items() <= bench.found().items()


def test_more_than_may_wait_for_answers() -> None:
    """The channels are given no more, and nothing is lost."""
    bench = Bench(CONFIGS[1])
    for memory in bench.memories:
        memory.latency = 300
    beats = bench.beats(3 * WRITES_IN_FLIGHT)

    async def story(ctx: Any) -> None:
        await bench.send(ctx, beats)
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.found() == bench.expected(beats)


def test_one_channel_is_a_write_master_and_nothing_else() -> None:
    config = Config("one", 128)

    def cells(component: Any) -> list[str]:
        lines = [line.split() for line in rtlil.convert(component).splitlines()]
        return sorted(words[1] for words in lines if words[:1] == ["cell"] and words[1].startswith("$"))

    assert cells(WriteChannels(config)) == cells(WriteMaster(config))
