import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from tailrace.hdl.axi.read_master import ReadMaster
from tailrace.hdl.axi.signature import ReadKind, Response
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
        await ctx.tick()
        for _ in range(limit):
            if (await ctx.tick().sample(self.dut.idle))[2]:
                return
        raise AssertionError(f"not idle after {limit} cycles (seed {self.seed})")

    def run(self, story, *background, top=None) -> None:
        sim = Simulator(top or self.dut)
        sim.add_clock(1e-6)
        for testbench in (self.memory.run, self.read, *background):
            sim.add_testbench(testbench, background=True)
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
    bench = Bench(config, 7, memory_stall, stall, seed=config.bus_width)
    requests = bench.random_requests(40, 150)

    async def story(ctx):
        await bench.send(ctx, requests, pause)
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.received == bench.expected(requests), f"seed {bench.seed}"


@pytest.mark.parametrize(
    ("bus_width", "beats", "bursts"), [(128, 200, [48, 64, 64, 24]), (512, 100, [12, 64, 24]), (128, 5, [5])]
)
def test_only_the_first_and_the_last_burst_are_shorter(bus_width, beats, bursts):
    """The request starts 16 (or 52) beats into a unit of 64."""
    bench = Bench(Config("test", bus_width))
    start = 0x1000 + (256 if bus_width == 128 else 52 * 64)

    async def story(ctx):
        await bench.send(ctx, [(start, beats, ReadKind.VECTOR, 0)])
        await bench.until_idle(ctx)

    bench.run(story)
    assert [length for _, length in bench.memory.bursts] == bursts
    assert bench.memory.bursts[0][0] == start


def test_latency():
    """From a request to its burst, and from a beat to the reader: two cycles each."""
    bench = Bench(Config("test", 128), latency=10)

    async def story(ctx):
        await bench.send(ctx, [(0, 1, ReadKind.COMMAND, 0)])
        await bench.until_idle(ctx)

    bench.run(story)
    asked = ReadMaster.request_latency
    assert bench.memory.ask_cycles == [asked]
    assert bench.memory.arrive_cycles == [asked + 10]
    assert bench.cycles == [asked + 10 + ReadMaster.beat_latency]


@pytest.mark.parametrize(
    ("config", "latency"),
    [
        (Config("base", 128), 200),
        (Config("base", 128), 512 - 64 - 1),
        (Config("wide", 512), 512 - 64 - 1),
        (Config("small", 128, read_fifo_beats=32, burst_beats=16), 32 - 16 - 1),
    ],
)
@pytest.mark.parametrize("lengths", [[2000], [64] * 30, [700, 100, 33, 513, 250, 301], [130] * 15])
def test_no_bubble(config, latency, lengths):
    """As long as the latency is below `read_fifo_beats - burst_beats`, the reader gets a beat every cycle."""
    bench = Bench(config, latency)
    places = [64 * bench.random.randrange(1 << 20) for _ in lengths]
    requests = [(place, beats, ReadKind.WEIGHT, 0) for place, beats in zip(places, lengths, strict=True)]

    async def story(ctx):
        await bench.send(ctx, requests)
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.received == bench.expected(requests)
    assert bench.cycles[-1] - bench.cycles[0] == len(bench.cycles) - 1


def test_a_burst_every_cycle():
    """Requests of one beat (commands on a bus of 512 bits) are taken, asked for and delivered one a cycle."""
    bench = Bench(Config("test", 512), latency=8)
    requests = [(64 * n, 1, ReadKind.COMMAND, n) for n in range(50)]

    async def story(ctx):
        await bench.send(ctx, requests)
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.received == bench.expected(requests)
    assert bench.memory.ask_cycles == list(range(2, 52))
    assert bench.cycles == list(range(12, 62))


@pytest.mark.parametrize("stall", [0, 0.7])
def test_counters(stall):
    """Each cycle is at most one of: a beat of some kind, waiting for memory, blocked by a full FIFO."""
    bench = Bench(Config("test", 128, read_fifo_beats=32, burst_beats=16), latency=9, stall=stall)
    requests = [(0, 100, ReadKind.WEIGHT, 0), (0x4000, 7, ReadKind.COMMAND, 1), (0x8000, 30, ReadKind.VECTOR, 2)]

    async def story(ctx):
        await bench.send(ctx, requests)
        await bench.until_idle(ctx)

    bench.run(story)
    beats = [kind for beat, kind, _, _ in bench.facts if beat]
    assert beats == [ReadKind.WEIGHT] * 100 + [ReadKind.COMMAND] * 7 + [ReadKind.VECTOR] * 30
    assert all(beat + waiting + blocked <= 1 for beat, _, waiting, blocked in bench.facts)
    # The burst is on `axi.ar` in cycle 2, its first beat comes in cycle 11.
    assert [waiting for _, _, waiting, _ in bench.facts[:12]] == [0, 0, *[1] * 9, 0]
    assert any(blocked for *_, blocked in bench.facts) == (stall > 0)


def test_blocked_while_nobody_reads():
    bench = Bench(Config("test", 128, read_fifo_beats=32, burst_beats=16))
    bench.reading = False

    async def story(ctx):
        await bench.send(ctx, [(0, 100, ReadKind.WEIGHT, 0)])
        await ctx.tick().repeat(100)
        assert ctx.get(bench.dut.blocked)
        assert len(bench.memory.arrive_cycles) == 32
        bench.reading = True
        await bench.until_idle(ctx)

    bench.run(story)
    assert len(bench.received) == 100


@pytest.mark.parametrize("failing", [0, 1, 15, 16, 40, 59, 60, 67])
@pytest.mark.parametrize("response", [Response.SLVERR, Response.DECERR])
@pytest.mark.parametrize(("memory_stall", "stall"), [(0, 0), (0.4, 0.6)])
def test_error_on_any_beat(failing, response, memory_stall, stall):
    """The beats before it are delivered, nothing after it; the first error is reported; after a flush all works again."""
    bench = Bench(CONFIGS[0], 6, memory_stall, stall, seed=failing)
    requests = [(0x1040, 60, ReadKind.WEIGHT, 11), (0x8000, 8, ReadKind.VECTOR, 12), (0x9000, 90, ReadKind.COMMAND, 13)]
    later = bench.random_requests(5, 60)
    addresses = [address + 16 * n for address, beats, *_ in requests for n in range(beats)]
    bench.memory.errors = {addresses[failing]: response, addresses[failing + 3]: Response.DECERR}

    async def source(ctx):
        await bench.send(ctx, requests)

    async def story(ctx):
        await ctx.tick().repeat(600)
        assert ctx.get(bench.dut.error.valid)
        assert ctx.get(bench.dut.error.address) == addresses[failing]
        assert ctx.get(bench.dut.error.command) == (11 if failing < 60 else 12)
        assert bench.received == bench.expected(requests)[:failing], f"seed {bench.seed}"
        bench.received.clear()
        bench.memory.errors.clear()
        ctx.set(bench.dut.flush, 1)
        await bench.until_idle(ctx)
        assert not ctx.get(bench.dut.error.valid)
        ctx.set(bench.dut.flush, 0)
        await bench.send(ctx, later)
        await bench.until_idle(ctx)
        assert not ctx.get(bench.dut.error.valid)

    bench.run(story, source)
    assert bench.received == bench.expected(later), f"seed {bench.seed}"


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[2]], ids=lambda c: c.name)
@pytest.mark.parametrize(("memory_stall", "stall"), [(0, 0), (0.4, 0.6)])
@pytest.mark.parametrize("number", range(2))
def test_memory_that_may_be_used(config, memory_stall, stall, number, seed):
    """Addresses count from a page anywhere, also above 256 GiB; nothing outside is asked for, and that is an error."""
    chance = random.Random(f"{seed} {number}")
    pages = 1 << config.address_width - 12
    bench = Bench(config, 6, memory_stall, stall, seed=chance.randrange(1 << 16))
    first = chance.choice((0, 1, pages - 40, (1 << 38) // 4096, chance.randrange(pages - 40)))
    last = chance.choice((0, 1, 2, 9))
    size = config.bus_bytes
    requests, inside, failure = [], [], None
    for command in range(12):
        page = chance.choice((0, last, last, last + 1)) if command > 3 else chance.randint(0, last)
        start = (4096 * page + 64 * chance.randrange(64)) // 64 * 64
        beats = chance.choice((1, 3, 64, chance.randint(1, 2 * 4096 // size)))
        kind = chance.choice(list(ReadKind))
        requests.append((start, beats, kind, command))
        for n in range(beats):
            address = start + n * size
            if failure is None and address >> 12 > last:
                failure = address, command
            if failure is None:
                inside.append((beat_data(4096 * first + address, config.bus_width), kind, n == beats - 1))

    sent = []

    async def source(ctx):
        await bench.send(ctx, requests)
        sent.append(True)

    async def story(ctx):
        ctx.set(bench.dut.first_page, first)
        ctx.set(bench.dut.last_page, last)
        if failure:
            await ctx.tick().until(bench.dut.error.valid)
            await ctx.tick().repeat(1500)
        else:
            while not sent:
                await ctx.tick()
            await bench.until_idle(ctx)
        assert ctx.get(bench.dut.error.valid) == (failure is not None)
        if failure:
            assert (ctx.get(bench.dut.error.address), ctx.get(bench.dut.error.command)) == failure
        assert bench.received == inside, f"seed {bench.seed}"
        assert all(first <= address >> 12 <= first + last for address, _ in bench.memory.bursts)
        ctx.set(bench.dut.flush, 1)
        await ctx.tick().repeat(20)
        assert sent
        await bench.until_idle(ctx)
        ctx.set(bench.dut.flush, 0)
        bench.received.clear()
        await bench.send(ctx, [(0, 5, ReadKind.WEIGHT, 0)])
        await bench.until_idle(ctx)
        assert not ctx.get(bench.dut.error.valid)
        assert [data for data, *_ in bench.received] == [beat_data(4096 * first + n * size, config.bus_width) for n in range(5)]

    bench.run(story, source)


def test_an_exclusive_okay_is_no_error():
    bench = Bench(CONFIGS[0])
    bench.memory.errors = {0: Response.EXOKAY}

    async def story(ctx):
        await bench.send(ctx, [(0, 2, ReadKind.WEIGHT, 0)])
        await bench.until_idle(ctx)
        assert not ctx.get(bench.dut.error.valid)

    bench.run(story)
    assert len(bench.received) == 2


@pytest.mark.parametrize("moment", [0, 1, 2, 3, 4, 5, 8, 11, 12, 20, 37, 64, 99])
@pytest.mark.parametrize(("memory_stall", "stall"), [(0, 0), (0.7, 0.3), (0, 0.8)])
def test_flush_at_any_moment(moment, memory_stall, stall):
    """Whatever is on the bus is finished, nothing of the old requests is delivered later, and the next ones work."""
    bench = Bench(CONFIGS[0], 9, memory_stall, stall, seed=moment)
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
        asked = sum(beats for _, beats in bench.memory.bursts)
        assert asked == len(bench.memory.arrive_cycles), "idle though beats were on their way"
        await ctx.tick().repeat(2)
        assert ctx.get(bench.dut.idle)
        assert bench.received == bench.expected(old)[: len(bench.received)], f"seed {bench.seed}"
        bench.received.clear()
        ctx.set(bench.dut.flush, 0)
        await bench.send(ctx, later)
        await bench.until_idle(ctx)

    bench.run(story, source)
    assert bench.received == bench.expected(later), f"seed {bench.seed}"


def test_flush_waits_for_a_burst_that_is_not_accepted():
    bench = Bench(CONFIGS[0])
    bench.memory.paused = True

    async def story(ctx):
        await bench.send(ctx, [(0x100, 40, ReadKind.WEIGHT, 0)])
        await ctx.tick().repeat(5)
        ctx.set(bench.dut.flush, 1)
        await ctx.tick().repeat(20)
        assert ctx.get(bench.dut.axi.ar.valid)
        assert not ctx.get(bench.dut.idle)
        bench.memory.paused = False
        await bench.until_idle(ctx)

    bench.run(story)
    assert bench.memory.bursts == [(0x100, 16)]
    assert bench.received == []


@pytest.mark.parametrize("requests_in_flight", [1, 16, 17, 128])
@pytest.mark.parametrize("beats", [1, 5])
def test_busy_from_the_cycle_after_a_request(requests_in_flight, beats):
    """Never idle from the cycle after a request is taken until its last beat is; with either kind of buffer for requests."""
    dut = ReadMaster(CONFIGS[0], requests_in_flight)
    idle = []

    async def story(ctx):
        ctx.set(dut.i.payload, {"address": 64, "beats": beats, "kind": ReadKind.WEIGHT, "command": 0})
        ctx.set(dut.axi.ar.ready, 1)
        for cycle in range(8 + beats):
            ctx.set(dut.i.valid, cycle == 0)
            ctx.set(dut.axi.r.valid, cycle in range(5, 5 + beats))
            idle.append(ctx.get(dut.idle))
            await ctx.tick()
        ctx.set(dut.o.ready, 1)
        await ctx.tick().repeat(beats)
        assert ctx.get(dut.idle)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(story)
    sim.run()
    assert idle == [1] + [0] * (7 + beats)


def test_reset_in_the_middle():
    """A reset of master and memory together needs no flush."""
    bench = Bench(CONFIGS[0], latency=30)
    later = bench.random_requests(5, 60)
    reset = Signal()

    async def story(ctx):
        bench.memory.paused = True
        await bench.send(ctx, [(0x100, 40, ReadKind.WEIGHT, 0)])
        await ctx.tick().repeat(3)
        ctx.set(reset, 1)
        bench.memory.restarted = True
        await ctx.tick()
        ctx.set(reset, 0)
        assert ctx.get(bench.dut.idle)
        bench.memory.paused = False
        await bench.send(ctx, later)
        await bench.until_idle(ctx)

    bench.run(story, top=ResetInserter(reset)(bench.dut))
    assert bench.received == bench.expected(later)


@pytest.mark.parametrize("requests", [0, -3, 2.5])
def test_requests_in_flight_are_checked(requests):
    with pytest.raises(ValueError, match=rf"^requests_in_flight must be a positive whole number, not {requests}$"):
        ReadMaster(CONFIGS[0], requests)
