import random
from collections import deque
from typing import Any

import pytest

from tailrace.hdl.control.executor import Executor
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.formats import FORMATS
from tailrace.spec.isa import MAX_ROWS, Opcode

from ..simulate import simulate
from .bench import Clock, Sink, Source

UNITS = ("load", "gemv", "route", "quantise", "store")
#: Operations whose results each one needs, or whose data it would overwrite.
NEEDS = {
    Opcode.LOAD_VECTOR: {Opcode.QUANTISE, Opcode.STORE},
    Opcode.GEMV: {Opcode.LOAD_VECTOR, Opcode.QUANTISE, Opcode.STORE},
    Opcode.QUANTISE: set(Opcode),
    Opcode.STORE: set(Opcode),
}


def units_of(operation: dict[str, int]) -> set[str]:
    return {
        Opcode.LOAD_VECTOR: {"load"},
        Opcode.GEMV: {"gemv", "route"},
        Opcode.QUANTISE: {"quantise"},
        Opcode.STORE: {"store"},
    }[operation["opcode"]]


class Unit:
    """A unit that takes up to `depth` commands and works on each for up to `work` cycles.

    With `holds` it takes a command when the work is done, and is busy for a few cycles more, as the units that keep their
    command at the port do. `offered`, `taken` and `idle_again` hold cycles, one for each command.
    """

    def __init__(self, stream: Any, idle: Any, clock: Clock, seed: int, depth: int, work: int, holds: bool) -> None:
        self.stream, self.idle, self.clock = stream, idle, clock
        self.chance, self.depth, self.work, self.holds = random.Random(seed), depth, work, holds
        self.payloads: list[Any] = []
        self.offered: list[int] = []
        self.taken: list[int] = []
        self.idle_again: list[int] = []
        self.left: deque[int] = deque()

    async def run(self, ctx):
        stream, waiting, patience = self.stream, None, self.chance.randrange(self.work)
        while True:
            ctx.set(self.idle, not self.left)
            ctx.set(stream.ready, patience == 0 and len(self.left) < self.depth)
            _, _, valid, ready, payload = await ctx.tick().sample(stream.valid, stream.ready, stream.payload)
            now = self.clock.now - 1
            if self.left:
                self.left[0] -= 1
                if self.left[0] == 0:
                    self.left.popleft()
                    self.idle_again.append(now + 1)
            if waiting is not None:
                assert valid, f"an offer was withdrawn before cycle {now}"
                assert payload == waiting, f"an offer was replaced before cycle {now}"
            elif valid:
                self.offered.append(now)
            waiting = payload if valid and not ready else None
            if valid and ready:
                self.payloads.append(payload)
                self.taken.append(now)
                patience = self.chance.randrange(self.work)
                left = self.chance.randrange(4) if self.holds else self.chance.randint(1, self.work)
                if left:
                    self.left.append(left)
                else:
                    self.idle_again.append(now + 1)
            elif valid and patience:
                patience -= 1


class Bench:
    """An executor among units that take their time."""

    def __init__(
        self, config: Config, operations: list[dict[str, int]], seed: int = 0, work: int = 12, stall: float = 0.3
    ) -> None:
        self.config, self.operations = config, operations
        self.dut = dut = Executor(config)
        self.clock = Clock()
        self.chance = random.Random(seed)
        depths = {"gemv": 2, "route": 4}
        self.units = {
            name: Unit(
                getattr(dut, name),
                getattr(dut, f"{name}_idle"),
                self.clock,
                seed + n,
                depths.get(name, 1),
                work,
                holds=name not in depths,
            )
            for n, name in enumerate(UNITS)
        }
        self.write = Sink(dut.write, self.clock, seed + 10, stall)
        self.source = Source(dut.i, operations, self.clock, seed + 11, stall)
        self.idle: list[int] = []
        self.command: list[int] = []
        #: Base exponents from a cycle on.
        self.bases: list[tuple[int, list[int]]] = []

    async def slots(self, ctx):
        """New base exponents whenever a vector has been written."""
        written = -1
        while True:
            now = sum(len(self.units[name].idle_again) for name in ("load", "quantise"))
            if now != written:
                written = now
                bases = [self.chance.randrange(-172, 84) for _ in range(self.config.right_hand_sides)]
                self.bases.append((self.clock.now, bases))
                for n, base in enumerate(bases):
                    ctx.set(self.dut.bases[n], base)
            await ctx.tick()

    async def watch(self, ctx):
        while True:
            _, _, idle, command = await ctx.tick().sample(self.dut.idle, self.dut.command)
            self.idle.append(idle)
            self.command.append(command)

    def run(self) -> None:
        async def testbench(ctx):
            await ctx.tick().repeat(2)
            await self.source.run(ctx)
            while not all(len(unit.idle_again) == len(unit.taken) for unit in self.units.values()):
                await ctx.tick()
            await ctx.tick().repeat(4)

        units = [unit.run for unit in self.units.values()]
        simulate(self.dut, testbench, background=(self.clock.run, *units, self.write.run, self.slots, self.watch))

    def spans(self) -> list[tuple[int, int]]:
        """For each operation the cycle in which it was offered first, and the one in which its units were idle again."""
        position = dict.fromkeys(UNITS, 0)
        spans = []
        for operation in self.operations:
            starts, ends = [], []
            for name in units_of(operation):
                starts.append(self.units[name].offered[position[name]])
                ends.append(self.units[name].idle_again[position[name]])
                position[name] += 1
            spans.append((min(starts), max(ends)))
        assert [position[name] for name in UNITS] == [len(self.units[name].payloads) for name in UNITS]
        return spans


def random_operations(config: Config, chance: random.Random, count: int) -> list[dict[str, int]]:
    operations = []
    for index in range(count):
        opcode = chance.choices(list(NEEDS), weights=(3, 4, 1, 1))[0]
        slots, keep = chance.randint(1, config.right_hand_sides), chance.randrange(2)
        few = keep or opcode is Opcode.STORE
        operation = {
            "opcode": int(opcode),
            "command": (1000 * index + 7) & 0xFFFF,
            "keep": keep,
            "format": chance.choice(FORMATS).number,
            "slot": chance.randrange(config.right_hand_sides),
            "slots": slots,
            "stride": chance.randint(1, 4),
            "offset": chance.randrange(config.result_entries),
            "rows": chance.choice((1, config.result_entries // slots)) if few else chance.randint(1, MAX_ROWS),
            "blocks": chance.choice((1, config.vector_blocks)),
            "destination": 64 * chance.randrange(1 << config.address_width - 6),
        }
        operations.append(operation)
    return operations


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize(("work", "stall"), [(1, 0.0), (12, 0.3), (40, 0.0)])
def test_order(config: Config, work: int, stall: float, seed: int):
    """Each operation starts as soon as what it depends on is done, and not before."""
    operations = random_operations(config, random.Random(seed), 60)
    bench = Bench(config, operations, seed, work, stall)
    bench.run()
    spans = bench.spans()
    loads_over_products = products_over_products = 0
    for n, (operation, (start, _)) in enumerate(zip(operations, spans, strict=True)):
        opcode = Opcode(operation["opcode"])
        earlier = list(zip(operations[:n], spans[:n], strict=True))
        needed = [end for other, (_, end) in earlier if other["opcode"] in NEEDS[opcode]]
        assert start == max([bench.source.offered[n], *(end + 1 for end in needed)]), f"operation {n} ({opcode.name})"
        running = [end for other, (_, end) in earlier if other["opcode"] == Opcode.GEMV and end > start]
        loads_over_products += bool(running) and opcode is Opcode.LOAD_VECTOR
        products_over_products += bool(running) and opcode is Opcode.GEMV
    if work > 1:
        assert loads_over_products
        assert products_over_products


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_what_is_handed_over(config: Config, seed: int):
    operations = random_operations(config, random.Random(seed), 60)
    bench = Bench(config, operations, seed)
    bench.run()
    taken = {name: list(zip(unit.payloads, unit.offered, strict=True)) for name, unit in bench.units.items()}
    writes = list(bench.write.payloads)
    for operation in operations:
        entries = operation["rows"] * operation["slots"]
        opcode = operation["opcode"]
        for name in units_of(operation):
            payload, start = taken[name].pop(0)
            expected = dict(operation)
            if name == "route":
                expected["entries"] = entries
            if name == "store":
                expected["entries"] = operation["rows"]
            for field in payload.shape().members:
                if field == "bases":
                    bases = [values for since, values in bench.bases if since <= start][-1]
                    assert [payload.bases[n] for n in range(config.right_hand_sides)] == bases
                else:
                    assert getattr(payload, field) == expected[field], f"{name}.{field}"
        if opcode == Opcode.STORE or (opcode == Opcode.GEMV and not operation["keep"]):
            write = writes.pop(0)
            assert write.address == operation["destination"]
            assert write.command == operation["command"]
            assert write.entries == (operation["rows"] if opcode == Opcode.STORE else entries)
    assert not writes
    assert not any(taken.values())


def test_idle(seed: int):
    """1 when all is done, from the cycle after the last unit has become idle; never while anything is not."""
    operations = random_operations(CONFIGS["tiny"], random.Random(seed), 60)
    bench = Bench(CONFIGS["tiny"], operations, seed, stall=0.9)
    bench.run()
    spans = bench.spans()
    busy = set()
    for offered, taken, (_, end) in zip(bench.source.offered, bench.source.taken, spans, strict=True):
        # A product whose write request still waits is not done.
        busy |= set(range(offered, max(end, taken) + 1))
    # The cycle after reset apart, in which it does not know yet.
    assert [cycle for cycle, idle in enumerate(bench.idle) if not idle] == sorted(busy | {0})
    assert len(busy) < len(bench.idle) - 20


def test_command(seed: int):
    """The index of what was started last, for the watchdog."""
    operations = random_operations(CONFIGS["tiny"], random.Random(seed), 60)
    bench = Bench(CONFIGS["tiny"], operations, seed, work=20)
    bench.run()
    spans = bench.spans()
    expected = {}
    # A load that waits behind a product counts as started when the engine is idle, whatever becomes of the results.
    engine, product_end = iter(bench.units["gemv"].idle_again), -1
    for operation, taken, (start, _) in zip(operations, bench.source.taken, spans, strict=True):
        since = {
            Opcode.GEMV: taken,
            Opcode.LOAD_VECTOR: min(taken, max(start, product_end + 1)),
        }.get(operation["opcode"], start)
        if operation["opcode"] == Opcode.GEMV:
            product_end = next(engine)
        expected[since + 1] = operation["command"]
    now = 0
    for cycle, command in enumerate(bench.command):
        now = expected.get(cycle, now)
        assert command == now, f"cycle {cycle}"


def test_a_write_request_that_waits():
    """A product goes on while the write master has no room for its request, but the next operation waits."""
    config = CONFIGS["tiny"]
    first, second = random_operations(config, random.Random(1), 2)
    first |= {"opcode": int(Opcode.GEMV), "keep": 0}
    second |= {"opcode": int(Opcode.GEMV), "keep": 1}
    bench = Bench(config, [first, second], work=1, stall=0.0)
    bench.write.limit = 0

    async def room(ctx):
        await ctx.tick().repeat(30)
        assert [len(bench.units[name].payloads) for name in ("gemv", "route")] == [1, 1]
        bench.write.limit = None

    units = [unit.run for unit in bench.units.values()]
    background = (bench.clock.run, *units, bench.write.run, bench.slots, bench.watch)
    simulate(bench.dut, bench.source.run, room, background=background)
    assert [len(bench.units[name].payloads) for name in ("gemv", "route")] == [2, 2]
    assert len(bench.write.payloads) == 1
