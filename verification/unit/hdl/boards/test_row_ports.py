"""Two ports that take a memory's rows in turn."""

import random
from collections import deque
from typing import Any

import pytest

from tailrace.hdl.boards.row_ports import IN_FLIGHT, PORTS, RowPorts
from verification.unit.hdl.axi.memory import Stability
from verification.unit.hdl.simulate import simulate

WIDTH, ROW_BYTES = 32, 64
BEAT_BYTES = WIDTH // 8
MEMORY_BYTES = 16 * ROW_BYTES


class Memory:
    """Two ports of single beats: each in order, apart by as much as their `stalls` let them be.

    A port does what was asked `LATENCY` cycles ago at the earliest; writes are done when they are answered, reads when their
    beat is offered first. Each takes `depth` reads at a time, and as many writes. An answer to a write that is not taken at once
    would be lost, as with LiteDRAM.
    """

    LATENCY = 3

    def __init__(self, dut: RowPorts, chance: random.Random, stalls: list[float], depth: int = 4) -> None:
        self.dut, self.chance, self.stalls, self.depth = dut, chance, stalls, depth
        self.content = bytearray(chance.randbytes(MEMORY_BYTES))
        self.beats = [0] * PORTS
        self.asked: list[tuple[int, int]] = []

    def beat(self, address: int, number: int) -> slice:
        assert address % BEAT_BYTES == 0
        assert address // ROW_BYTES % PORTS == number, f"{address:#x} on port {number}"
        return slice(address, address + BEAT_BYTES)

    async def run(self, ctx: Any, number: int) -> None:
        read, write = self.dut.reads[number], self.dut.writes[number]
        due: deque[tuple[int, int]] = deque()
        addresses: deque[int] = deque()
        words: deque[tuple[int, int]] = deque()
        answers: deque[int] = deque()
        offered: int | None = None
        stable = {name: Stability(f"{name} of port {number}") for name in ("ar", "aw", "w")}
        cycle = 0

        def willing() -> bool:
            return self.chance.random() >= self.stalls[number]

        while True:
            if offered is None and due and due[0][0] <= cycle and willing():
                offered = int.from_bytes(self.content[self.beat(due.popleft()[1], number)], "little")
            ctx.set(read.r.valid, offered is not None)
            if offered is not None:
                ctx.set(read.r.p, {"data": offered, "response": 0, "last": 1})
            answer = bool(answers and answers[0] <= cycle and willing())
            ctx.set(write.b.valid, answer)
            ctx.set(read.ar.ready, len(due) < self.depth and willing())
            ctx.set(write.aw.ready, len(addresses) < self.depth and willing())
            ctx.set(write.w.ready, len(words) < self.depth and willing())
            await ctx.delay(1e-8)
            for name, channel in (("ar", read.ar), ("aw", write.aw), ("w", write.w)):
                valid, ready = ctx.get(channel.valid), ctx.get(channel.ready)
                payload = ctx.get(channel.payload.as_value())
                stable[name].check(valid, ready, payload)
                if not (valid and ready):
                    continue
                if name == "w":
                    assert ctx.get(channel.p.last)
                    words.append((ctx.get(channel.p.data), ctx.get(channel.p.strobe)))
                    continue
                assert ctx.get(channel.p.length) == 0
                if name == "ar":
                    self.asked.append((number, cycle))
                    due.append((cycle + self.LATENCY, ctx.get(channel.p.address)))
                else:
                    addresses.append(ctx.get(channel.p.address))
            if offered is not None and ctx.get(read.r.ready):
                offered = None
                self.beats[number] += 1
            if answer:
                assert ctx.get(write.b.ready), "the answer is lost"
                answers.popleft()
            if addresses and words:
                place, (word, strobe) = self.beat(addresses.popleft(), number).start, words.popleft()
                for i, byte in enumerate(word.to_bytes(BEAT_BYTES, "little")):
                    if strobe >> i & 1:
                        self.content[place + i] = byte
                answers.append(cycle + self.LATENCY)
            cycle += 1
            await ctx.tick()

    @property
    def testbenches(self) -> list[Any]:
        async def first(ctx: Any) -> None:
            await self.run(ctx, 0)

        async def second(ctx: Any) -> None:
            await self.run(ctx, 1)

        return [first, second]


def burst(chance: random.Random, first: int = 0) -> tuple[int, int]:
    """Address and beats in the memory from `first` on: over several rows or within one, as often a single beat."""
    beats = chance.choice((1, 1, 2, 16, 17, 40, chance.randrange(1, 65)))
    return BEAT_BYTES * chance.randrange(first // BEAT_BYTES, MEMORY_BYTES // BEAT_BYTES - beats + 1), beats


class User:
    """Asks and takes, and pauses in half of the cycles if there are `stalls`."""

    def __init__(self, dut: RowPorts, chance: random.Random, stalls: bool) -> None:
        self.dut, self.chance, self.stalls = dut, chance, stalls

    def pause(self) -> bool:
        return self.stalls and self.chance.random() < 0.5

    async def offer(self, ctx: Any, channel: Any, payloads: list[dict[str, int]]) -> None:
        for payload in payloads:
            while self.pause():
                await ctx.tick()
            ctx.set(channel.payload, payload)
            ctx.set(channel.valid, 1)
            await ctx.tick().until(channel.ready)
            ctx.set(channel.valid, 0)

    async def ask(self, ctx: Any, channel: Any, bursts: list[tuple[int, int]]) -> None:
        await self.offer(ctx, channel, [{"address": at, "length": beats - 1} for at, beats in bursts])

    async def take(self, ctx: Any, bursts: list[tuple[int, int]], expected: bytes | bytearray) -> None:
        """Take the beats of reads; each must be the `expected` memory's, and only the last one of a burst be marked."""
        r, stable = self.dut.read.r, Stability("r")
        for at, beats in bursts:
            for number in range(beats):
                place = at + number * BEAT_BYTES
                valid = ready = False
                while not (valid and ready):
                    ready = not self.pause()
                    ctx.set(r.ready, ready)
                    await ctx.delay(2e-8)
                    valid = ctx.get(r.valid)
                    found = ctx.get(r.p.data), ctx.get(r.p.response), ctx.get(r.p.last)
                    stable.check(valid, ready, found)
                    await ctx.tick()
                    ctx.set(r.ready, 0)
                right = int.from_bytes(expected[place : place + BEAT_BYTES], "little")
                assert found == (right, 0, number == beats - 1), f"{place:#x}"


#: How often the ports pause: not at all, both, and one much more than the other.
PAUSES = ([0.0, 0.0], [0.5, 0.5], [0.9, 0.1], [0.0, 0.8])


@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("stalls", [False, True])
def test_reads_are_answered_in_order(pauses: list[float], stalls: bool, seed: int) -> None:
    dut = RowPorts(32, WIDTH, ROW_BYTES)
    chance = random.Random(seed)
    memory, user = Memory(dut, chance, pauses), User(dut, chance, stalls)
    bursts = [burst(chance) for _ in range(24)]

    async def ask(ctx: Any) -> None:
        await user.ask(ctx, dut.read.ar, bursts)

    async def take(ctx: Any) -> None:
        await user.take(ctx, bursts, memory.content)

    simulate(dut, ask, take, background=memory.testbenches)
    assert sum(memory.beats) == sum(beats for _, beats in bursts)


@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("stalls", [False, True])
def test_reads_find_what_was_written_and_answered(pauses: list[float], stalls: bool, seed: int) -> None:
    """Bursts and single beats with any strobes, some where others were; reads of another part while they are under way."""
    dut = RowPorts(32, WIDTH, ROW_BYTES)
    chance = random.Random(seed)
    memory, user = Memory(dut, chance, pauses), User(dut, chance, stalls)
    expected, half = bytearray(memory.content), MEMORY_BYTES // 2
    rounds = [[burst(chance, half) for _ in range(chance.randrange(1, 24))] for _ in range(3)]
    beats: list[list[dict[str, int]]] = []
    for bursts in rounds:
        beats.append([])
        for _, length in bursts:
            for number in range(length):
                word, strobe = chance.getrandbits(WIDTH), chance.choice((15, chance.getrandbits(BEAT_BYTES)))
                beats[-1].append({"data": word, "strobe": strobe, "last": number == length - 1})
    answered, looked = 0, 0

    async def ask(ctx: Any) -> None:
        for number, bursts in enumerate(rounds):
            while looked < number:
                await ctx.tick()
            await user.ask(ctx, dut.write.aw, bursts)

    async def give(ctx: Any) -> None:
        for number, words in enumerate(beats):
            while looked < number:
                await ctx.tick()
            await user.offer(ctx, dut.write.w, words)

    async def hear(ctx: Any) -> None:
        nonlocal answered
        for bursts, words in zip(rounds, beats, strict=True):
            places = iter(words)
            for at, length in bursts:
                while user.pause():
                    await ctx.tick()
                ctx.set(dut.write.b.ready, 1)
                (answer,) = await ctx.tick().sample(dut.write.b.p.response).until(dut.write.b.valid)
                ctx.set(dut.write.b.ready, 0)
                assert answer == 0
                for place in range(at, at + length * BEAT_BYTES, BEAT_BYTES):
                    word = next(places)
                    for i in range(BEAT_BYTES):
                        if word["strobe"] >> i & 1:
                            expected[place + i] = word["data"] >> 8 * i & 0xFF
                answered += 1

    async def look(ctx: Any) -> None:
        nonlocal looked
        everything = [(at, 32) for at in range(half, MEMORY_BYTES, 32 * BEAT_BYTES)]
        for number in range(len(rounds)):
            elsewhere = [(at, length) for at, length in (burst(chance) for _ in range(12)) if at + length * BEAT_BYTES <= half]
            for one in elsewhere:
                await user.ask(ctx, dut.read.ar, [one])
                await user.take(ctx, [one], expected)
            while answered < sum(len(bursts) for bursts in rounds[: number + 1]):
                await ctx.tick()
            for one in everything:
                await user.ask(ctx, dut.read.ar, [one])
                await user.take(ctx, [one], expected)
            looked = number + 1

    simulate(dut, ask, give, hear, look, background=memory.testbenches)
    assert memory.content == expected


def test_a_beat_a_cycle_each_way() -> None:
    """From ports that take and give one, and from the first beat on 2 cycles later."""
    dut = RowPorts(32, WIDTH, ROW_BYTES)
    chance = random.Random(0)
    memory, user = Memory(dut, chance, [0.0, 0.0], depth=IN_FLIGHT), User(dut, chance, False)
    bursts = [(0, 64), (64 * BEAT_BYTES, 64), (0, 64), *((BEAT_BYTES * beat, 1) for beat in range(64))]
    words = [{"data": beat, "strobe": 0, "last": beat % 64 == 63 or beat >= 192} for beat in range(256)]
    cycles: dict[str, int] = {}

    async def now(ctx: Any) -> None:
        count = 0
        async for _ in ctx.tick():
            count += 1
            cycles["now"] = count

    async def ask_reads(ctx: Any) -> None:
        await user.ask(ctx, dut.read.ar, bursts)

    async def take(ctx: Any) -> None:
        await user.take(ctx, bursts, memory.content)
        cycles["read"] = cycles["now"]

    async def ask_writes(ctx: Any) -> None:
        await user.ask(ctx, dut.write.aw, bursts)

    async def give(ctx: Any) -> None:
        await user.offer(ctx, dut.write.w, words)

    async def hear(ctx: Any) -> None:
        ctx.set(dut.write.b.ready, 1)
        for _ in bursts:
            await ctx.tick().until(dut.write.b.valid)
        cycles["written"] = cycles["now"]

    simulate(dut, ask_reads, take, ask_writes, give, hear, background=[now, *memory.testbenches])
    assert memory.asked[0][1] == dut.latency
    assert [cycle - memory.asked[0][1] for _, cycle in memory.asked] == list(range(256))
    assert cycles["read"] <= 256 + dut.latency + memory.LATENCY + 4
    assert cycles["written"] <= 256 + dut.latency + memory.LATENCY + 6


def test_a_port_is_asked_for_its_row_while_the_other_one_has_no_room(seed: int) -> None:
    """The next row's beats are under way before this row's are taken."""
    dut = RowPorts(32, WIDTH, ROW_BYTES)
    chance = random.Random(seed)
    memory, user = Memory(dut, chance, [0.0, 0.0], depth=8), User(dut, chance, False)

    async def ask(ctx: Any) -> None:
        await user.ask(ctx, dut.read.ar, [(ROW_BYTES // 2, 64)])

    async def wait(ctx: Any) -> None:
        for _ in range(50):
            await ctx.tick()
        # A row has 16 beats: of the first one there are 8 from its middle on. A port has one more when it offers one.
        assert [number for number, _ in memory.asked] == [0] * 8 + [1] * 9
        await user.take(ctx, [(ROW_BYTES // 2, 64)], memory.content)

    simulate(dut, ask, wait, background=memory.testbenches)
