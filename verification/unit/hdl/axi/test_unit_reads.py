import random
from typing import Any

import pytest

from tailrace.hdl.axi.signature import ReadKind
from tailrace.hdl.axi.unit_reads import READS_NOTED, UnitReads
from tailrace.spec.config import Config

from ..simulate import simulate
from ..streams import STALLS, Cycles, receive, send
from ..widths import ports

WIDTHS = pytest.mark.parametrize("beat_width", [1024, 2048, 8192])
Request = tuple[int, int, ReadKind, int]


class Bench:
    """Requests, a memory in which every unit of 64 bytes has a number of its own, and those who take units and weights."""

    def __init__(self, beat_width: int, seed: int | None) -> None:
        self.config = Config("test", **ports(beat_width))
        self.dut, self.seed, self.random, self.cycles = UnitReads(self.config), seed, random.Random(seed), Cycles()
        self.units: list[tuple[int, ReadKind, int]] = []
        self.weights: list[int] = []
        #: As the reader behind it gets them.
        self.asked: list[Request] = []

    def unit(self, address: int) -> int:
        return random.Random(address // 64).getrandbits(512)

    def beat(self, address: int) -> int:
        return sum(self.unit(address + 64 * n) << 512 * n for n in range(self.config.beat_units))

    def draw(self, count: int, longest: int) -> list[Request]:
        requests = []
        for n in range(count):
            kind, units = self.random.choice(list(ReadKind)), self.config.beat_units
            place = self.random.randrange(1 << 20)
            address = 64 * (place // units * units if kind is ReadKind.WEIGHT else place)
            requests.append((address, self.random.choice((1, 2, units, self.random.randint(1, longest))), kind, n))
        return requests

    def run(self, requests: list[Request]) -> None:
        dut, size = self.dut, self.config.beat_bytes

        async def ask(ctx: Any) -> None:
            names = ("address", "beats", "kind", "command")
            await send(ctx, dut.i, [dict(zip(names, request, strict=True)) for request in requests], self.seed)

        async def answer(ctx: Any) -> None:
            for _ in requests:
                [found] = await receive(ctx, dut.request, 1, self.seed)
                self.asked.append((found.address, found.beats, ReadKind(found.kind), found.command))

        async def read(ctx: Any) -> None:
            for n in range(len(requests)):
                while len(self.asked) <= n:
                    await ctx.tick()
                address, beats, kind, _ = self.asked[n]
                assert address % size == 0
                beat = [{"data": self.beat(address + size * k), "kind": kind, "last": k == beats - 1} for k in range(beats)]
                await send(ctx, dut.beats, beat, self.seed)

        async def take_units(ctx: Any) -> None:
            for _ in range(sum(beats for _, beats, kind, _ in requests if kind is not ReadKind.WEIGHT)):
                [found] = await receive(ctx, dut.units, 1, self.seed)
                self.units.append((found.data, ReadKind(found.kind), found.last))

        async def take_weights(ctx: Any) -> None:
            count = sum(beats for _, beats, kind, _ in requests if kind is ReadKind.WEIGHT)
            self.weights += await receive(ctx, dut.weights, count, self.seed)

        simulate(dut, ask, answer, read, take_units, take_weights, background=[self.cycles.count])


@pytest.mark.parametrize("seed", STALLS)
@WIDTHS
def test_units_and_weights_in_their_order(beat_width: int, seed: int | None) -> None:
    """Commands and vectors from any unit on, over the end of a beat or not; weights pass as they are."""
    bench = Bench(beat_width, seed)
    requests = bench.draw(60, 40)
    bench.run(requests)
    size, count = bench.config.beat_bytes, bench.config.beat_units
    for (address, beats, kind, command), asked in zip(requests, bench.asked, strict=True):
        first = address // size * size
        # So many beats have what is asked for, and no less.
        whole = beats if kind is ReadKind.WEIGHT else -(-(address - first + 64 * beats) // size)
        assert asked == (first, whole, kind, command)
    assert bench.units == [
        (bench.unit(address + 64 * n), kind, n == beats - 1)
        for address, beats, kind, _ in requests
        if kind is not ReadKind.WEIGHT
        for n in range(beats)
    ]
    assert bench.weights == [
        bench.beat(address + size * n) for address, beats, kind, _ in requests if kind is ReadKind.WEIGHT for n in range(beats)
    ]
    assert count > 1


@WIDTHS
def test_a_unit_a_cycle(beat_width: int) -> None:
    """Of a long vector; and one cycle is lost for no beat."""
    bench = Bench(beat_width, None)
    bench.run([(64 * 5, 200, ReadKind.VECTOR, 0)])
    assert bench.cycles.now <= 200 + 12


def test_more_reads_than_are_noted() -> None:
    """They wait until others have come; none is lost."""
    bench = Bench(1024, None)
    dut, count = bench.dut, 3 * READS_NOTED
    asked: list[int] = []

    async def ask(ctx: Any) -> None:
        await send(ctx, dut.i, [{"address": 64 * n, "beats": 1, "kind": ReadKind.COMMAND, "command": n} for n in range(count)])

    async def answer(ctx: Any) -> None:
        ctx.set(dut.request.ready, 1)
        async for _, _, valid, payload in ctx.tick().sample(dut.request.valid, dut.request.payload):
            if valid:
                asked.append(payload.address)

    async def read(ctx: Any) -> None:
        await ctx.tick().repeat(2 * READS_NOTED)
        # As many as are noted, and what lies in the registers behind the notes.
        assert READS_NOTED <= len(asked) <= READS_NOTED + 2
        for n in range(count):
            while len(asked) <= n:
                await ctx.tick()
            await send(ctx, dut.beats, [{"data": bench.beat(asked[n]), "kind": ReadKind.COMMAND, "last": 1}])

    async def take(ctx: Any) -> None:
        found = await receive(ctx, dut.units, count)
        assert [unit.data for unit in found] == [bench.unit(64 * n) for n in range(count)]

    simulate(dut, ask, read, take, background=[answer])
