import random
from functools import partial
from itertools import accumulate

import pytest
from amaranth.back import rtlil
from amaranth.sim import Simulator

from tailrace.hdl.axi.read_channels import ReadChannels
from tailrace.hdl.axi.read_master import ReadMaster
from tailrace.hdl.axi.signature import ReadKind, Response
from tailrace.spec.config import Config
from verification.unit.hdl.axi.memory import ReadMemory, beat_data
from verification.unit.hdl.axi.stripes import channel_of, place_of

SMALL = {"read_fifo_beats": 32, "burst_beats": 16}
CONFIGS = [
    Config("two", 128, channels=2, **SMALL),
    Config("four", 128, channels=4, **SMALL),
    Config("two of 256", 256, channels=2, **SMALL, address_width=64),
]
ALL = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
#: Latency and stalls of each channel: alike, apart by more than a buffer holds, and at random.
MEMORIES = {
    "alike": ([6] * 4, [0.0] * 4),
    "apart": ([3, 90, 20, 6], [0.0] * 4),
    "random": ([3, 40, 5, 9], [0.3, 0.1, 0.6, 0.0]),
}
EACH = pytest.mark.parametrize("memories", MEMORIES)


class Bench:
    """Channels, a memory for each, and a reader that pauses with probability `stall`."""

    def __init__(self, config: Config, memories: str = "alike", stall: float = 0.0, seed: int = 0) -> None:
        self.config, self.stall, self.seed, self.random = config, stall, seed, random.Random(seed)
        self.dut = ReadChannels(config)
        latencies, stalls = MEMORIES[memories]
        size = config.bus_bytes
        self.memories = [
            ReadMemory(
                self.dut.axi[n], config.bus_width, config.burst_beats, latencies[n], stalls[n], seed + n,
                partial(place_of, n, bus_bytes=size, channels=config.channels),
            )
            for n in range(config.channels)
        ]  # fmt: skip
        self.received: list[tuple[int, ReadKind, int]] = []
        self.facts: list[tuple[int, ReadKind, int, int]] = []
        self.cycles: list[int] = []
        self.levels: list[int] = []

    def expected(self, requests) -> list[tuple[int, ReadKind, int]]:
        width, size = self.config.bus_width, self.config.bus_bytes
        return [
            (
                sum(beat_data(place + part * size, width) << part * width for part in range(self.config.channels)),
                kind,
                n == beats - 1,
            )
            for address, beats, kind, _ in requests
            for n in range(beats)
            for place in (address + n * self.config.beat_bytes,)
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

    def fail(self, place: int, response: Response = Response.SLVERR) -> None:
        """Let a byte of the device's memory fail."""
        channel, address = channel_of(place, self.config.bus_bytes, self.config.channels)
        self.memories[channel].errors[address // self.config.bus_bytes * self.config.bus_bytes] = response

    async def send(self, ctx, requests) -> None:
        i = self.dut.i
        for address, beats, kind, command in requests:
            ctx.set(i.payload, {"address": address, "beats": beats, "kind": kind, "command": command})
            ctx.set(i.valid, 1)
            await ctx.tick().until(i.ready)
            ctx.set(i.valid, 0)

    async def read(self, ctx) -> None:
        dut, o, cycle = self.dut, self.dut.o, 0
        while True:
            ctx.set(o.ready, self.random.random() >= self.stall)
            _, _, valid, ready, beat, level, *facts = await ctx.tick().sample(
                o.valid, o.ready, o.payload, dut.level, dut.beat, dut.beat_kind, dut.waiting, dut.blocked
            )
            self.levels.append(level)
            self.facts.append(tuple(facts))
            if valid and ready:
                self.received.append((beat.data, beat.kind, beat.last))
                self.cycles.append(cycle)
            cycle += 1

    async def until_idle(self, ctx, limit: int = 20000) -> None:
        await ctx.tick()
        for _ in range(limit):
            if (await ctx.tick().sample(self.dut.idle))[2]:
                return
        raise AssertionError(f"not idle after {limit} cycles (seed {self.seed})")

    def run(self, story, *background) -> None:
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        for testbench in (*(memory.run for memory in self.memories), self.read, *background):
            sim.add_testbench(testbench, background=True)
        sim.add_testbench(story)
        sim.run()


@ALL
@EACH
@pytest.mark.parametrize("stall", [0, 0.5])
def test_every_beat_in_order(config: Config, memories: str, stall: float, seed: int) -> None:
    """Every part of every beat is read from where the stripes have it, in the bursts that one port as wide would ask for."""
    bench = Bench(config, memories, stall, seed)
    requests = bench.random_requests(25, 150)

    async def story(ctx):
        await bench.send(ctx, requests)
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.received == bench.expected(requests), f"seed {seed}"
    assert all(memory.bursts == bench.memories[0].bursts for memory in bench.memories)
    beats = [kind for beat, kind, _, _ in bench.facts if beat]
    assert beats == [kind for _, count, kind, _ in requests for _ in range(count)], f"seed {seed}"
    assert all(beat + waiting + blocked <= 1 for beat, _, waiting, blocked in bench.facts)


@ALL
@EACH
def test_level_counts_whole_beats(config: Config, memories: str, seed: int) -> None:
    """Those that have arrived and not been taken."""
    bench = Bench(config, memories, 0.4, seed)
    requests = bench.random_requests(10, 150)

    async def story(ctx):
        await bench.send(ctx, requests)
        await bench.until_idle(ctx)

    bench.run(story)
    taken = {*bench.cycles}
    changes = [beat - (cycle in taken) for cycle, (beat, _, _, _) in enumerate(bench.facts)]
    assert bench.levels == [0, *accumulate(changes[:-1])], f"seed {seed}"
    assert max(bench.levels) > 1


@ALL
def test_a_beat_every_cycle(config: Config) -> None:
    """A channel that is behind costs latency, and no beat after that."""
    bench = Bench(config)
    for memory, latency in zip(bench.memories, (3, 14, 7, 10), strict=False):
        memory.latency = latency

    async def story(ctx):
        await bench.send(ctx, [(0x1000, 300, ReadKind.WEIGHT, 0)])
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.cycles == list(range(bench.cycles[0], bench.cycles[0] + 300))
    assert bench.cycles[0] == ReadMaster.request_latency + 14 + ReadMaster.beat_latency


@ALL
@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_channel_holds_up_the_beats_and_nothing_else(config: Config, frozen: int, seed: int) -> None:
    """The others read ahead as far as their buffers go, and all goes on when the frozen one does."""
    bench = Bench(config, "alike", 0.2, seed)
    requests = [(0x4000 * n, 37, ReadKind.WEIGHT, n) for n in range(8)]

    async def source(ctx):
        await bench.send(ctx, requests)

    async def story(ctx):
        memory = bench.memories[frozen]
        await ctx.tick().repeat(80)
        memory.paused = True
        await ctx.tick().repeat(50)
        before = len(bench.received), len(memory.arrive_cycles)
        await ctx.tick().repeat(3000)
        assert (len(bench.received), len(memory.arrive_cycles)) == before
        assert before[0] == before[1] < 8 * 37
        ahead = {len(other.arrive_cycles) - before[0] for other in bench.memories if other is not memory}
        assert len(ahead) == 1
        assert 16 <= ahead.pop() <= config.read_fifo_beats + 1
        assert all(waiting for _, _, waiting, _ in bench.facts[-2900:])
        memory.paused = False
        await ctx.tick().repeat(2)
        await bench.until_idle(ctx)

    bench.run(story, source)
    assert bench.received == bench.expected(requests), f"seed {seed}"


@ALL
@EACH
@pytest.mark.parametrize("number", range(4))
def test_the_first_part_that_fails_is_the_error(config: Config, memories: str, number: int, seed: int) -> None:
    """Whichever channel it lies in, however far the others are; all before it is delivered, and nothing from there on."""
    chance = random.Random(f"{seed} {number}")
    bench = Bench(config, memories, 0.3, chance.randrange(1 << 16))
    size, parts = config.beat_bytes, config.channels
    requests = [(0x1040, 60, ReadKind.WEIGHT, 11), (0x8000, 8, ReadKind.VECTOR, 12), (0x9000, 90, ReadKind.COMMAND, 13)]
    later = bench.random_requests(5, 60)
    places = [(address + n * size, command) for address, beats, _, command in requests for n in range(beats)]
    # Several beats close to each other, each in one channel of its own.
    start = chance.randrange(len(places) - 12)
    failing = sorted(start + n for n in chance.sample(range(12), 3))
    for n in failing:
        part = chance.randrange(parts)
        bench.fail(places[n][0] + part * config.bus_bytes, chance.choice((Response.SLVERR, Response.DECERR)))

    async def source(ctx):
        await bench.send(ctx, requests)

    async def story(ctx):
        await ctx.tick().until(bench.dut.error.valid)
        await ctx.tick().repeat(400)
        error = bench.dut.error
        assert (ctx.get(error.address), ctx.get(error.command)) == places[failing[0]], f"seed {bench.seed}"
        assert bench.received == bench.expected(requests)[: failing[0]], f"seed {bench.seed}"
        bench.received.clear()
        for memory in bench.memories:
            memory.errors.clear()
        ctx.set(bench.dut.flush, 1)
        await bench.until_idle(ctx)
        assert not ctx.get(error.valid)
        ctx.set(bench.dut.flush, 0)
        await bench.send(ctx, later)
        await bench.until_idle(ctx)
        assert not ctx.get(error.valid)

    bench.run(story, source)
    assert bench.received == bench.expected(later), f"seed {bench.seed}"


@ALL
@EACH
@pytest.mark.parametrize("moment", [0, 2, 5, 13, 37, 120])
def test_flush_at_any_moment(config: Config, memories: str, moment: int, seed: int) -> None:
    """Also while channels are apart: what is on the buses is finished, nothing of it is delivered later, the next works."""
    bench = Bench(config, memories, 0.3, seed + moment)
    old, later = bench.random_requests(30, 60), bench.random_requests(5, 60)

    async def source(ctx):
        for request in old:
            await bench.send(ctx, [request])
            if ctx.get(bench.dut.flush):
                return

    async def story(ctx):
        await ctx.tick().repeat(moment + 1)
        ctx.set(bench.dut.flush, 1)
        await bench.until_idle(ctx)
        for memory in bench.memories:
            asked = sum(beats for _, beats in memory.bursts)
            assert asked == len(memory.arrive_cycles), "idle though beats were on their way"
        assert bench.received == bench.expected(old)[: len(bench.received)], f"seed {bench.seed}"
        bench.received.clear()
        bench.facts.clear()
        ctx.set(bench.dut.flush, 0)
        await bench.send(ctx, later)
        await bench.until_idle(ctx)

    bench.run(story, source)
    assert bench.received == bench.expected(later), f"seed {bench.seed}"
    assert [kind for beat, kind, _, _ in bench.facts if beat] == [kind for _, n, kind, _ in later for _ in range(n)]


@ALL
@EACH
def test_memory_that_may_be_used(config: Config, memories: str, seed: int) -> None:
    """Every channel counts from a page of its own; what lies behind the last page is not asked for, and is an error."""
    bench = Bench(config, memories, 0.2, seed)
    first = [bench.random.randrange(1 << config.address_width - 13) for _ in range(config.channels)]
    for n, memory in enumerate(bench.memories):
        memory.place = lambda address, n=n: place_of(n, address - 4096 * first[n], config.bus_bytes, config.channels)
    end = 2 * 4096 * config.channels
    requests = [(0x40, 90, ReadKind.WEIGHT, 5), (end - 5 * 64, 700, ReadKind.WEIGHT, 6)]

    async def source(ctx):
        await bench.send(ctx, requests)

    async def story(ctx):
        for n, page in enumerate(first):
            ctx.set(bench.dut.first_page[n], page)
        ctx.set(bench.dut.last_page, 1)
        await ctx.tick().until(bench.dut.error.valid)
        assert (ctx.get(bench.dut.error.address), ctx.get(bench.dut.error.command)) == (end, 6)
        await ctx.tick().repeat(100)

    bench.run(story, source)
    inside = 90 + 5 * 64 // config.beat_bytes
    assert bench.received == bench.expected(requests)[:inside], f"seed {seed}"
    for n, memory in enumerate(bench.memories):
        assert all(first[n] <= address // 4096 <= first[n] + 1 for address, _ in memory.bursts)


def test_one_channel_is_a_read_master_and_nothing_else() -> None:
    config = Config("one", 128, **SMALL)

    def cells(component) -> list[str]:
        lines = [line.split() for line in rtlil.convert(component).splitlines()]
        return sorted(words[1] for words in lines if words[:1] == ["cell"] and words[1].startswith("$"))

    assert cells(ReadChannels(config)) == cells(ReadMaster(config))
