import random
from collections import deque

import pytest
from amaranth.hdl import ResetInserter, Signal

from tailrace.hdl.axi.signature import ReadKind
from tailrace.hdl.control.command_fetch import AHEAD, CommandFetch
from tailrace.hdl.fifo import SMALL_DEPTH
from tailrace.spec.commands import encode
from tailrace.spec.config import BUS_WIDTHS, Config
from tailrace.spec.isa import COMMAND_BYTES, MAX_COMMANDS, Opcode

from ..simulate import simulate
from .bench import STALLS, Clock, Sink


class Bench:
    """A fetcher before a memory, which answers requests in order, and a reader of its commands."""

    def __init__(
        self, bus_width: int, seed: int = 0, request: float = 0.0, beats: float = 0.0, output: float = 0.0, latency: int = 1
    ) -> None:
        self.config = Config("test", bus_width)
        self.dut = CommandFetch(self.config)
        self.reset = Signal()
        self.clock = Clock()
        self.jumps = False
        self.latency, self.stall, self.chance = latency, beats, random.Random(seed)
        self.memory = random.Random(seed + 1)
        self.contents: dict[int, int] = {}
        self.due: deque[tuple[int, int]] = deque()
        self.beats_taken: list[int] = []
        self.requests = Sink(self.dut.request, self.clock, seed + 2, request, on_taken=self.asked, flush=self.reset)
        # A jump withdraws what was fetched.
        self.commands = Sink(self.dut.o, self.clock, seed + 3, output, flush=self.reset | self.dut.start)

    def asked(self, request) -> None:
        ahead = len(self.requests.payloads) - len(self.commands.payloads)
        assert ahead <= AHEAD or self.jumps, f"{ahead} commands are asked for"
        for n in range(request.beats):
            address = request.address + n * self.config.beat_bytes
            # No loops but those that a test puts there.
            value = self.contents.setdefault(address, self.memory.getrandbits(self.config.bus_width - 8) << 8)
            self.due.append((self.clock.now + self.latency, value))

    async def answer(self, ctx):
        i = self.dut.i
        while True:
            offer = bool(self.due) and self.due[0][0] <= self.clock.now and self.chance.random() >= self.stall
            ctx.set(i.valid, offer)
            if offer:
                ctx.set(i.payload, self.due[0][1])
            _, _, ready, reset = await ctx.tick().sample(i.ready, self.reset)
            if reset:
                self.due.clear()
                continue
            # A beat never waits: the stream behind it carries vectors and weights too.
            assert ready or not offer, "a beat was held up"
            if offer:
                self.due.popleft()
                self.beats_taken.append(self.clock.now - 1)

    async def start(self, ctx, address: int, length: int, index: int = 0) -> None:
        ctx.set(self.dut.address, address)
        ctx.set(self.dut.length, length)
        ctx.set(self.dut.index, index)
        ctx.set(self.dut.start, 1)
        await ctx.tick()
        # They need not stay.
        ctx.set(self.dut.address, 0)
        ctx.set(self.dut.length, 0)
        ctx.set(self.dut.start, 0)

    async def until(self, ctx, commands: int) -> None:
        while len(self.commands.payloads) < commands:
            await ctx.tick()

    def check(self, address: int, length: int, first: int = 0) -> None:
        """The requests and commands from number `first` on are those of a queue."""
        requests, commands = self.requests.payloads[first:], self.commands.payloads[first:]
        assert len(requests) == len(commands) == length
        beats = COMMAND_BYTES // self.config.beat_bytes
        for n, (request, command) in enumerate(zip(requests, commands, strict=True)):
            place = address + COMMAND_BYTES * n
            assert (request.address, request.beats, request.kind, request.command) == (place, beats, ReadKind.COMMAND, n)
            words = [self.contents[place + m * self.config.beat_bytes] for m in range(beats)]
            assert command.command == sum(word << m * self.config.bus_width for m, word in enumerate(words))
            assert command.index == n

    def run(self, testbench) -> None:
        background = (self.clock.run, self.requests.run, self.commands.run, self.answer)
        simulate(ResetInserter(self.reset)(self.dut), testbench, background=background)


@pytest.mark.parametrize("width", BUS_WIDTHS)
@pytest.mark.parametrize("output", STALLS)
@pytest.mark.parametrize("beats", STALLS)
@pytest.mark.parametrize("request_", STALLS)
def test_every_command_in_order(width: int, request_: float, beats: float, output: float, seed: int):
    bench = Bench(width, seed, request_, beats, output)
    address = (1 << 40) - 30 * COMMAND_BYTES

    async def testbench(ctx):
        await bench.start(ctx, address, 30)
        await bench.until(ctx, 30)
        await ctx.tick().repeat(20)

    bench.run(testbench)
    bench.check(address, 30)


@pytest.mark.parametrize("width", BUS_WIDTHS)
@pytest.mark.parametrize("length", [1, 2, AHEAD, AHEAD + 1])
def test_ahead(width: int, length: int):
    """While nobody takes commands, `AHEAD` of them are asked for and buffered, and no beat waits."""
    bench = Bench(width)
    bench.commands.limit = 0

    async def testbench(ctx):
        await bench.start(ctx, 0x1000, length)
        await ctx.tick().repeat(60 + 4 * AHEAD)
        assert len(bench.requests.payloads) == min(length, AHEAD)
        assert not bench.due
        bench.commands.limit = None
        await bench.until(ctx, length)
        await ctx.tick().repeat(20)

    bench.run(testbench)
    bench.check(0x1000, length)


@pytest.mark.parametrize("width", BUS_WIDTHS)
def test_latency(width: int):
    """A command is offered two cycles after its last beat, or three where the buffer is deep."""
    bench = Bench(width, latency=7)

    async def testbench(ctx):
        await bench.start(ctx, 0x40, 9)
        await bench.until(ctx, 9)

    bench.run(testbench)
    beats = COMMAND_BYTES // bench.config.beat_bytes
    delay = 2 if AHEAD * beats <= SMALL_DEPTH else 3
    assert bench.commands.taken == [cycle + delay for cycle in bench.beats_taken[beats - 1 :: beats]]


@pytest.mark.parametrize("width", BUS_WIDTHS)
def test_throughput(width: int):
    """Commands keep up with their beats, if the memory answers within the time that `AHEAD` commands cover."""
    bench = Bench(width, latency=1)

    async def testbench(ctx):
        await bench.start(ctx, 0x40, 50)
        await bench.until(ctx, 50)

    bench.run(testbench)
    beats = COMMAND_BYTES // bench.config.beat_bytes
    assert bench.commands.taken[-1] - bench.commands.taken[0] <= 49 * max(beats, 2)


@pytest.mark.parametrize("width", BUS_WIDTHS)
@pytest.mark.parametrize("stall", STALLS)
def test_jumps(width: int, stall: float, seed: int):
    """Whatever was asked for or fetched before a jump, what comes after it is the target and what follows it."""
    bench, chance = Bench(width, seed, stall, stall, stall, latency=12), random.Random(seed)
    address, length = 0x4000, 40
    targets = [chance.randrange(length) for _ in range(12)]
    found: list[list[int]] = []
    bench.jumps = True

    async def testbench(ctx):
        for target in targets:
            bench.commands.payloads.clear()
            bench.requests.payloads.clear()
            await bench.start(ctx, address, length, target)
            bench.commands.payloads.clear()
            await bench.until(ctx, min(chance.randint(1, 6), length - target))
            found.append([command.index for command in bench.commands.payloads])
            for command in bench.commands.payloads:
                words = [
                    bench.contents[address + 64 * command.index + m * bench.config.beat_bytes] for m in range(512 // width)
                ]
                assert command.command == sum(word << m * width for m, word in enumerate(words))

    bench.run(testbench)
    assert found == [list(range(t, t + len(f))) for t, f in zip(targets, found, strict=True)]


@pytest.mark.parametrize("width", BUS_WIDTHS)
@pytest.mark.parametrize("stall", STALLS)
def test_loops(width: int, stall: float, seed: int):
    """After a loop come its target and what follows it, without being told."""
    bench = Bench(width, seed, stall, stall, stall, latency=20)
    bench.jumps = True
    address, length, loops = 0x4000, 60, {9: 4, 50: 49}
    for place, target in loops.items():
        command = encode(Opcode.LOOP, target=target)
        for n in range(COMMAND_BYTES // bench.config.beat_bytes):
            part = command[n * bench.config.beat_bytes : (n + 1) * bench.config.beat_bytes]
            bench.contents[address + COMMAND_BYTES * place + n * bench.config.beat_bytes] = int.from_bytes(part, "little")
    expected = [*range(10), *range(4, 10), *range(4, 10)]

    async def testbench(ctx):
        await bench.start(ctx, address, length)
        await bench.until(ctx, len(expected))
        assert [command.index for command in bench.commands.payloads[: len(expected)]] == expected
        # It is left.
        bench.commands.payloads.clear()
        await bench.start(ctx, address, length, 10)
        bench.commands.payloads.clear()
        await bench.until(ctx, 50)
        assert [c.index for c in bench.commands.payloads[:50]] == [*range(10, 51), *[49, 50] * 4, 49]

    bench.run(testbench)


def test_long_queue():
    """The largest length is taken as it is."""
    bench = Bench(512)

    async def testbench(ctx):
        await bench.start(ctx, 0, MAX_COMMANDS)
        await bench.until(ctx, 300)

    bench.run(testbench)
    assert [command.index for command in bench.commands.payloads[:300]] == list(range(300))


@pytest.mark.parametrize("width", BUS_WIDTHS)
def test_next_queue(width: int, seed: int):
    bench = Bench(width, seed, 0.3, 0.3, 0.3)

    async def testbench(ctx):
        await bench.start(ctx, 0x4000, 7)
        await bench.until(ctx, 7)
        await bench.start(ctx, 0x8000, 11)
        await bench.until(ctx, 18)
        await ctx.tick().repeat(20)

    bench.run(testbench)
    del bench.requests.payloads[:7], bench.commands.payloads[:7]
    bench.check(0x8000, 11)


@pytest.mark.parametrize("width", BUS_WIDTHS)
@pytest.mark.parametrize("when", [3, 9, 14, 22, 31, 45])
def test_after_reset(width: int, when: int, seed: int):
    """Whatever was under way when a run was stopped, nothing of it is left."""
    bench = Bench(width, seed, 0.3, 0.3, 0.6)

    async def testbench(ctx):
        await bench.start(ctx, 0x4000, 40)
        await ctx.tick().repeat(when)
        ctx.set(bench.reset, 1)
        await ctx.tick().repeat(3)
        ctx.set(bench.reset, 0)
        bench.requests.payloads.clear()
        bench.commands.payloads.clear()
        await bench.start(ctx, 0x8000, 11)
        await bench.until(ctx, 11)
        await ctx.tick().repeat(20)

    bench.run(testbench)
    bench.check(0x8000, 11)


def test_empty_queue():
    bench = Bench(128)

    async def testbench(ctx):
        await bench.start(ctx, 0x40, 0)
        await ctx.tick().repeat(20)

    bench.run(testbench)
    bench.check(0x40, 0)


@pytest.mark.parametrize("width", BUS_WIDTHS)
@pytest.mark.parametrize("target", [0, 3])
@pytest.mark.parametrize("beyond", [0, 5])
def test_requests_after_a_loop_name_their_command(width: int, target: int, beyond: int):
    """Each read has the index of the command at its address, so that an error names it, and none is behind the queue."""
    bench = Bench(width)
    bench.jumps = True
    queue, loop = 0x1000, 6
    length = loop + 1 + beyond
    code = int.from_bytes(encode(Opcode.LOOP, register=1, target=target), "little")
    for n in range(COMMAND_BYTES * 8 // width):
        place = queue + loop * COMMAND_BYTES + n * width // 8
        bench.contents[place] = code >> n * width & (1 << width) - 1
    turns = loop + 1 - target

    async def testbench(ctx):
        await bench.start(ctx, queue, length)
        await bench.until(ctx, 3 * (loop + 1))

    bench.run(testbench)
    for request in bench.requests.payloads:
        index, rest = divmod(request.address - queue, COMMAND_BYTES)
        assert (request.command, rest) == (index, 0)
        assert 0 <= index < length
    expected = [n if n <= loop else target + (n - target) % turns for n in range(3 * (loop + 1))]
    assert [command.index for command in bench.commands.payloads[: len(expected)]] == expected
