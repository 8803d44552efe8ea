import random
from itertools import pairwise

import pytest
from amaranth.hdl import Array, Module, Mux, Signal

from tailrace.hdl.axi.lite import LiteSlave

from ..control.bench import STALLS, Clock, Sink, Source
from ..control.lite_master import LiteMaster
from ..simulate import simulate

WORDS = 32


class Bench:
    """A slave, the registers behind it, and the accesses that it made.

    `pauses` is the probability that a cycle lets no access act, and that a read's data is not there.
    """

    def __init__(self, pauses: float = 0.0, seed: int = 0) -> None:
        self.dut = LiteSlave(12)
        self.clock = Clock()
        self.pauses, self.chance = pauses, random.Random(seed)
        self.writes: list[tuple[int, int, int]] = []
        self.write_cycles: list[int] = []
        self.reads: list[int] = []
        self.read_cycles: list[int] = []

    def design(self) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        words = Array(Signal(32, name=f"word_{n}") for n in range(WORDS))
        m.d.comb += dut.read_data.eq(Mux(dut.read & dut.found, words[dut.read_offset[2:]], 0xDEAD_DEAD))
        for byte in range(4):
            with m.If(dut.write & dut.write_strobe[byte]):
                m.d.sync += words[dut.write_offset[2:]].word_select(byte, 8).eq(dut.write_data.word_select(byte, 8))
        return m

    async def watch(self, ctx):
        dut = self.dut
        while True:
            hold, found = (self.chance.random() < self.pauses for _ in range(2))
            ctx.set(dut.hold, hold)
            ctx.set(dut.found, not found)
            _, _, write, *access, read, read_offset = await ctx.tick().sample(
                dut.write, dut.write_offset, dut.write_data, dut.write_strobe, dut.read & dut.found, dut.read_offset
            )
            assert not hold or not (write or read)
            if write:
                self.writes.append(tuple(access))
                self.write_cycles.append(self.clock.now - 1)
            if read:
                self.reads.append(read_offset)
                self.read_cycles.append(self.clock.now - 1)

    def run(self, *testbenches, background=()):
        simulate(self.design(), *testbenches, background=(self.clock.run, self.watch, *background))


@pytest.mark.parametrize("pauses", STALLS)
@pytest.mark.parametrize("stall", STALLS)
def test_every_access_once(stall: float, pauses: float, seed: int):
    bench, chance = Bench(pauses, seed), random.Random(seed)
    master = LiteMaster(bench.dut.axi, seed, stall)
    expected: dict[int, int] = {}
    writes, reads = [], []

    async def testbench(ctx):
        for _ in range(200):
            offset = 4 * chance.randrange(WORDS)
            if chance.random() < 0.5:
                value, strobe = chance.getrandbits(32), chance.choice((0b1111, chance.getrandbits(4)))
                await master.write(ctx, offset, value, strobe)
                mask = sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1)
                expected[offset] = expected.get(offset, 0) & ~mask | value & mask
                writes.append((offset, value, strobe))
            else:
                assert await master.read(ctx, offset) == expected.get(offset, 0)
                reads.append(offset)

    bench.run(testbench)
    assert bench.writes == writes
    assert bench.reads == reads


@pytest.mark.parametrize("pauses", STALLS)
@pytest.mark.parametrize("stall", STALLS)
def test_reads_beside_writes(stall: float, pauses: float, seed: int):
    """The two directions do not hold each other up."""
    bench = Bench(pauses, seed)
    writer, reader = LiteMaster(bench.dut.axi, seed, stall), LiteMaster(bench.dut.axi, seed + 1, stall)

    async def write(ctx):
        for n in range(100):
            await writer.write(ctx, 4 * (n % WORDS), n)

    async def read(ctx):
        for n in range(100):
            assert await reader.read(ctx, 4 * (n % WORDS)) % WORDS in (0, n % WORDS)

    bench.run(write, read)
    assert bench.writes == [(4 * (n % WORDS), n, 15) for n in range(100)]
    assert bench.reads == [4 * (n % WORDS) for n in range(100)]


@pytest.mark.parametrize("answers", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("data", STALLS)
@pytest.mark.parametrize("addresses", STALLS)
def test_without_waiting_for_answers(addresses: float, data: float, answers: float, seed: int):
    """A master may offer the next transfer before the last one is answered: each is answered once, in order."""
    bench, chance = Bench(), random.Random(seed)
    axi, clock = bench.dut.axi, bench.clock
    writes = [(4 * (n % WORDS), chance.getrandbits(32), chance.getrandbits(4)) for n in range(60)]
    aw = Source(axi.aw, [{"address": address} for address, _, _ in writes], clock, seed, addresses)
    w = Source(axi.w, [{"data": value, "strobe": strobe} for _, value, strobe in writes], clock, seed + 1, data)
    ar = Source(axi.ar, [{"address": address} for address, _, _ in writes], clock, seed + 2, addresses)
    b, r = Sink(axi.b, clock, seed + 3, answers), Sink(axi.r, clock, seed + 4, answers)

    async def all_answered(ctx):
        while min(len(b.payloads), len(r.payloads)) < len(writes):
            await ctx.tick()
        await ctx.tick().repeat(5)

    bench.run(aw.run, w.run, ar.run, all_answered, background=(b.run, r.run))
    assert bench.writes == writes
    assert len(b.payloads) == len(r.payloads) == len(bench.reads) == len(writes)


@pytest.mark.parametrize("first", ["address", "data", "both"])
def test_latency_of_a_write(first: str):
    bench = Bench()
    axi = bench.dut.axi
    taken = {}

    async def offer(ctx, channel, name, delay):
        await ctx.tick().repeat(delay)
        ctx.set(channel.valid, 1)
        await ctx.tick().until(channel.ready)
        taken[name] = bench.clock.now - 1
        ctx.set(channel.valid, 0)

    async def address(ctx):
        await offer(ctx, axi.aw, "address", 1 + 5 * (first == "data"))

    async def data(ctx):
        await offer(ctx, axi.w, "data", 1 + 5 * (first == "address"))

    async def answer(ctx):
        await ctx.tick().until(axi.b.valid)
        taken["answer"] = bench.clock.now - 1

    bench.run(address, data, answer)
    later = max(taken["address"], taken["data"])
    assert bench.write_cycles == [later + 2]
    assert taken["answer"] == later + 3


def test_throughput():
    """A write every three cycles, a read every four."""
    bench = Bench()
    axi = bench.dut.axi

    async def testbench(ctx):
        for signal in (axi.aw.valid, axi.w.valid, axi.b.ready, axi.ar.valid, axi.r.ready):
            ctx.set(signal, 1)
        await ctx.tick().repeat(60)

    bench.run(testbench)
    for cycles, apart in ((bench.write_cycles, 3), (bench.read_cycles, 4)):
        assert len(cycles) > 10
        assert {after - before for before, after in pairwise(cycles)} == {apart}


def test_data_follows_three_cycles_later():
    bench, cycles = Bench(), {}
    axi = bench.dut.axi

    async def testbench(ctx):
        await ctx.tick().repeat(3)
        ctx.set(axi.ar.valid, 1)
        await ctx.tick().until(axi.ar.ready)
        cycles["taken"] = bench.clock.now - 1
        ctx.set(axi.ar.valid, 0)
        await ctx.tick().until(axi.r.valid)
        cycles["answered"] = bench.clock.now - 1

    bench.run(testbench)
    assert bench.read_cycles == [cycles["taken"] + 2]
    assert cycles["answered"] == cycles["taken"] + 3


def test_no_path_from_input_to_output():
    """What a slave answers in a cycle does not depend on what it is offered in that cycle (A3.2.1)."""
    bench = Bench()
    axi = bench.dut.axi
    inputs = (axi.aw.valid, axi.w.valid, axi.b.ready, axi.ar.valid, axi.r.ready)
    outputs = (axi.aw.ready, axi.w.ready, axi.b.valid, axi.ar.ready, axi.r.valid)
    chance = random.Random(3)

    async def testbench(ctx):
        for _ in range(100):
            seen = set()
            for _ in range(8):
                for signal in inputs:
                    ctx.set(signal, chance.randrange(2))
                await ctx.delay(1e-9)
                seen.add(tuple(ctx.get(signal) for signal in outputs))
            assert len(seen) == 1
            await ctx.tick()

    bench.run(testbench)
