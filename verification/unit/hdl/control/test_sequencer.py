import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from amaranth.hdl import Module, Signal

from tailrace.hdl.axi.signature import ReadKind
from tailrace.hdl.control.interpreter import Interpreter
from tailrace.hdl.control.sequencer import Sequencer
from tailrace.hdl.control.watchdog import Watchdog
from tailrace.spec.commands import check, decode, encode, resolve
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import (
    ANY_PENDING,
    ARGUMENTS,
    FIRST_ARGUMENT,
    MAX_COMMANDS,
    MODIFIABLE,
    REGISTERS,
    VECTOR_OPCODES,
    Opcode,
    SetMode,
)
from tailrace.spec.registers import NO_WATCHDOG

from ..simulate import simulate
from .bench import STALLS, Clock, Sink
from .commands import expected_reads, valid_command

FENCE = encode(Opcode.FENCE)
LOAD = encode(Opcode.LOAD_VECTOR, source=0x40, blocks=3)
GEMV = encode(Opcode.GEMV, source=0x80, format=1, slots=1, rows=5, blocks=3)
STORE = encode(Opcode.STORE, count=1)
READ = encode(Opcode.READ, register=3)
ARGUMENT_VALUES = [0x1234_5678, 3, 0, 0xFFFF_FFFF, 17, 1, 2, 0x8000_0000]

#: What a run does: ("request", index, kind, address, beats), ("operation", index, command) and ("fence", index).
Event = tuple[Any, ...]


def interpret(commands: Sequence[bytes], config: Config, values: Sequence[int], count: int | None = None) -> list[Event]:
    """The events of a run, or of its first `count` commands; `values` is what each `READ` finds."""
    registers = [0] * REGISTERS
    registers[FIRST_ARGUMENT : FIRST_ARGUMENT + ARGUMENTS] = ARGUMENT_VALUES
    events: list[Event] = []
    found, index, done = iter(values), 0, 0
    while index < len(commands) and (count is None or done < count):
        command = resolve(commands[index], registers)
        opcode, fields = decode(command)
        value, following = None, index + 1
        if opcode is Opcode.FENCE:
            events.append(("fence", index))
        elif opcode is Opcode.SET:
            value = registers[fields["x"]] * fields["factor"] + registers[fields["y"]] + fields["addend"] & 0xFFFF_FFFF
            value >>= fields["shift"]
            if fields["mode"] == SetMode.MINIMUM:
                value = min(value, fields["limit"])
            elif fields["mode"] == SetMode.WRAP and value >= fields["limit"]:
                value = 0
        elif opcode is Opcode.LOOP:
            value = registers[fields["register"]] - 1 & 0xFFFF_FFFF
            if value and fields["register"]:
                following = fields["target"]
        else:
            events.append(("operation", index, command))
            for address, beats in expected_reads(command, config):
                kind = ReadKind.WEIGHT if opcode is Opcode.GEMV else ReadKind.VECTOR
                events.append(("request", index, kind, address, beats))
            if opcode is Opcode.READ:
                value = next(found)
        if value is not None and fields["register"]:
            registers[fields["register"]] = value
        index, done = following, done + 1
    return events


class Bench:
    """A sequencer, its watchdog, and models of what surrounds them.

    Commands come from `commands` as soon as a run has started to fetch. Operations take up to `work` cycles each. Once
    something was asked for, the bus is quiet `settle` cycles after a flush began; None: never. All of it may be changed
    while the simulation runs.
    """

    def __init__(self, config: Config = CONFIGS["tiny"], seed: int = 0, stall: float = 0.0, work: int = 1) -> None:
        self.config, self.chance, self.stall, self.work = config, random.Random(seed), stall, work
        self.dut, self.watchdog = Sequencer(config), Watchdog()
        self.progress = Signal()
        self.clock = Clock()
        self.commands: Sequence[bytes] = ()
        self.settle: int | None = 0
        #: Cycles left of each operation, and whether the vector unit has it.
        self.running: list[tuple[int, bool]] = []
        #: What the commands `READ` found, and those of them that have not been sent.
        self.values: list[int] = []
        self.unsent: list[int] = []
        self.holding = False
        self.busy = False
        self.events: list[Event] = []
        self.cycles: list[int] = []
        self.facts: list[dict[str, int]] = []

        flush = self.dut.flush
        self.request = Sink(self.dut.request, self.clock, seed + 1, stall, flush=flush, on_taken=self._asked)
        self.operation = Sink(self.dut.o, self.clock, seed + 2, stall, flush=flush, on_taken=self._started)

    def design(self) -> Module:
        m = Module()
        m.submodules.dut, m.submodules.watchdog = self.dut, self.watchdog
        m.d.comb += [
            self.watchdog.running.eq(self.dut.running),
            self.watchdog.progress.eq(self.progress | self.dut.aborting),
            self.dut.expired.eq(self.watchdog.expired),
        ]
        return m

    def _note(self, *event: Any) -> None:
        self.events.append(event)
        self.cycles.append(self.clock.now - 1)

    def _asked(self, request) -> None:
        self.busy = True
        self._note("request", request.command, request.kind, request.address, request.beats)

    def _started(self, operation) -> None:
        command = operation.command.to_bytes(64, "little")
        opcode = decode(command)[0]
        self.running.append((self.chance.randint(1, self.work), opcode in VECTOR_OPCODES))
        self._note("operation", operation.index, command)
        if opcode is Opcode.READ:
            self.values.append(self.chance.getrandbits(32))
            self.unsent.append(self.values[-1])

    async def fetch(self, ctx):
        """Offers commands, and forgets them when a run is flushed."""
        i, position, offered = self.dut.i, None, False
        while True:
            if position is not None and position < len(self.commands):
                offered = offered or self.chance.random() >= self.stall
                ctx.set(i.payload, {"command": int.from_bytes(self.commands[position], "little"), "index": position})
            else:
                offered = False
            ctx.set(i.valid, offered)
            watched = (self.dut.fetch_start, self.dut.fetch_index, self.dut.flush, i.ready)
            _, _, start, index, flush, ready = await ctx.tick().sample(*watched)
            if offered and ready:
                # As if every loop were taken.
                opcode, fields = decode(self.commands[position]) or (None, {})
                position, offered = fields["target"] if opcode is Opcode.LOOP else position + 1, False
            if flush:
                position = None
            elif start:
                self.busy, position, offered = True, index, False
                self._note("fetch")

    async def value(self, ctx):
        """Sends what is read."""
        stream = self.dut.value
        while True:
            ctx.set(stream.valid, bool(self.unsent))
            if self.unsent:
                ctx.set(stream.payload, self.unsent[0])
            _, _, ready, flush = await ctx.tick().sample(stream.ready, self.dut.flush)
            if flush:
                self.unsent.clear()
            elif self.unsent and ready and ctx.get(stream.valid):
                self.unsent.pop(0)

    async def surroundings(self, ctx):
        """The units and the masters."""
        dut, flushed = self.dut, 0
        while True:
            ctx.set(dut.drained, not self.running and not self.holding)
            ctx.set(dut.writes_done, not self.holding and self.chance.random() >= self.stall)
            ctx.set(dut.vector_unfinished, sum(vector for _, vector in self.running))
            ctx.set(dut.quiet, not self.busy)
            facts = ("flush", "done", "running", "fence", "drain", "command", "aborting", "drained", "quiet", "fetch_start")
            facts += ("writes_done", "vector_unfinished")
            _, _, *values = await ctx.tick().sample(*(getattr(dut, name) for name in facts))
            now = dict(zip(facts, values, strict=True))
            self.facts.append(now)
            self.running = [] if now["flush"] else [(left - 1, vector) for left, vector in self.running if left > 1]
            flushed = flushed + 1 if now["flush"] else 0
            if self.settle is not None and flushed > self.settle:
                self.busy = False
            if now["flush"]:
                for signal in (dut.read_error.valid, dut.write_error.valid, dut.expired_command):
                    ctx.set(signal, 0)
            if now["fence"] and now["command"]:
                self._note("fence", now["vector_unfinished"], now["writes_done"])
            if now["done"]:
                self._note("done")

    async def arguments(self, ctx):
        while True:
            ctx.set(self.dut.argument, ARGUMENT_VALUES[ctx.get(self.dut.argument_place)])
            await ctx.tick()

    async def ring(self, ctx, commands: Sequence[bytes], length: int | None = None) -> None:
        """Start a run."""
        self.commands = commands
        self.events.clear()
        self.cycles.clear()
        self.values.clear()
        ctx.set(self.dut.length, len(commands) if length is None else length)
        ctx.set(self.dut.start, 1)
        await ctx.tick()
        ctx.set(self.dut.start, 0)

    async def finish(self, ctx) -> tuple[ErrorCode, int, int]:
        """Wait for the end of the run: code, command and address of its error."""
        await ctx.tick().until(self.dut.done)
        assert not ctx.get(self.dut.running)
        return self.error(ctx)

    def error(self, ctx) -> tuple[ErrorCode, int, int]:
        error = ctx.get(self.dut.error)
        return ErrorCode(error.code), error.command, error.address

    def check(self, commands: Sequence[bytes], count: int | None = None) -> None:
        """What happened is what the first `count` commands do, in their order."""
        expected = interpret(commands, self.config, self.values, count)
        found = [event for event in self.events if event[0] in ("request", "operation", "fence")]
        assert [e[0] for e in found] == [e[0] for e in expected]
        for event, wanted in zip(found, expected, strict=True):
            if event[0] == "fence":
                _, unfinished, written = event
                pending = decode(commands[wanted[1]])[1]["pending"]
                assert written
                assert pending == ANY_PENDING or unfinished <= pending
            else:
                assert event == wanted

    def run(self, *testbenches: Callable[..., Any]) -> None:
        background = (
            self.clock.run,
            self.request.run,
            self.operation.run,
            self.fetch,
            self.value,
            self.surroundings,
            self.arguments,
        )
        simulate(self.design(), *testbenches, background=background, limit=150_000)


def program(config: Config, chance: random.Random, length: int, jumps: bool = True) -> list[bytes]:
    """Valid commands; products with a stride have few groups of rows; loops, if any, end."""
    opcodes = [o for o in Opcode if o is not Opcode.LOOP]
    commands = []
    for _ in range(length):
        command = valid_command(chance.choice(opcodes), config, chance)
        opcode, fields = decode(command)
        if opcode is Opcode.GEMV and fields["stride"]:
            command = encode(opcode, **fields | {"rows": chance.randint(1, 9)})
        if opcode in (Opcode.SET, Opcode.READ):
            # Arguments stay what they are: modifiers rely on them.
            command = encode(opcode, **fields | {"register": chance.randrange(FIRST_ARGUMENT)})
        commands.append(_modified(command, config, chance))
    if jumps and length > 4:
        # r1 is counted down by nothing else, and set before the loop.
        first, last = sorted(chance.sample(range(1, length), 2))
        for n, command in enumerate(commands):
            opcode, fields = decode(command)
            if opcode in (Opcode.SET, Opcode.READ) and fields["register"] == 1:
                commands[n] = encode(opcode, **fields | {"register": 2})
        commands[first - 1] = encode(Opcode.SET, register=1, addend=chance.randint(1, 3))
        commands[last] = encode(Opcode.LOOP, register=1, target=first)
    return commands


def _modified(command: bytes, config: Config, chance: random.Random) -> bytes:
    """Add up to three arguments to words of a command, which stays valid: it is less by as much before."""
    opcode, fields = decode(command)
    if opcode not in MODIFIABLE or chance.random() < 0.4:
        return command
    words = [int.from_bytes(command[4 * n : 4 * n + 4], "little") for n in range(16)]
    for i in range(chance.randint(1, 3)):
        word, argument = chance.randrange(1, 15), chance.randrange(ARGUMENTS)
        words[word] = words[word] - ARGUMENT_VALUES[argument] & 0xFFFF_FFFF
        words[15] |= (word | (FIRST_ARGUMENT + argument) << 4) << 9 * i
    return b"".join(word.to_bytes(4, "little") for word in words)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize(("stall", "work"), [(0.0, 1), (0.0, 60), (0.5, 60)])
def test_programs(config: Config, stall: float, work: int, seed: int):
    bench, chance = Bench(config, seed, stall, work), random.Random(seed)

    async def testbench(ctx):
        for length in (1, 25, 2, 25):
            commands = program(config, chance, length)
            start = len(bench.facts)
            await bench.ring(ctx, commands)
            assert await bench.finish(ctx) == (ErrorCode.NONE, 0, 0)
            bench.check(commands)
            facts = bench.facts[start:]
            assert sum(f["command"] for f in facts) >= length
            assert sum(f["done"] for f in facts) == 1
            # Running from the cycle after the start to the end, and flushed before the fetch and at the end.
            assert all(f["running"] for f in facts[1:])
            flush = [f["flush"] for f in facts[:-3]]
            assert flush == sorted(flush, reverse=True)
            assert not any(f["aborting"] for f in facts)
            # The end waits for what is under way; and little else does.
            assert facts[-4]["drained"]
            assert [(f["flush"], f["drain"]) for f in facts[-4:]] == [(0, 1), (1, 1), (1, 1), (1, 0)]
            assert facts[-2]["quiet"]
            if work > 1 and length > 2:
                assert any(f["command"] and not f["drained"] for f in facts)

    bench.run(testbench)


def test_loops():
    """Nested, with registers that change from turn to turn; a loop over r0 is left at once."""
    bench = Bench()
    commands = [
        encode(Opcode.SET, register=1, addend=3),
        encode(Opcode.SET, register=2, addend=2),
        encode(Opcode.LOAD_VECTOR, blocks=1, source=100, modifier_word_0=2, modifier_register_0=4),
        encode(Opcode.SET, register=4, y=4, addend=7),
        encode(Opcode.LOOP, register=2, target=2),
        encode(Opcode.LOOP, register=1, target=1),
        encode(Opcode.LOOP, register=0, target=0),
    ]

    async def testbench(ctx):
        await bench.ring(ctx, commands)
        assert await bench.finish(ctx) == (ErrorCode.NONE, 0, 0)
        bench.check(commands)
        addresses = [event[3] for event in bench.events if event[0] == "request"]
        assert addresses == [64 * (100 + 7 * n) for n in range(6)]

    bench.run(testbench)


@pytest.mark.parametrize("mode", SetMode)
def test_limits_of_set(mode: SetMode):
    """Below, at and above the limit, each way of limiting; and what a window that wraps does with it."""
    bench = Bench()
    values = [0, 1, 99, 100, 101, 1 << 31, (1 << 32) - 1]
    commands = []
    for limit in (0, 1, 100, (1 << 32) - 1):
        for value in values:
            commands.append(encode(Opcode.SET, register=2, addend=value, mode=mode, limit=limit))
            # The value shows in what is passed on: in a field that takes any.
            commands.append(encode(Opcode.APPEND, count=1, segments=1, modifier_word_0=6, modifier_register_0=2))
    # A count from 0 to 2, again and again.
    step = len(commands)
    commands.append(encode(Opcode.SET, register=3, addend=8))
    commands.append(encode(Opcode.APPEND, count=1, segments=1, modifier_word_0=6, modifier_register_0=4))
    commands.append(encode(Opcode.SET, register=4, y=4, addend=1, mode=mode, limit=3))
    commands.append(encode(Opcode.LOOP, register=3, target=step + 1))

    async def testbench(ctx):
        await bench.ring(ctx, commands)
        assert await bench.finish(ctx) == (ErrorCode.NONE, 0, 0)
        bench.check(commands)
        tokens = [decode(event[2])[1]["token"] for event in bench.events if event[0] == "operation"]
        window = {SetMode.PLAIN: range(8), SetMode.MINIMUM: (0, 1, 2, 3, 3, 3, 3, 3), SetMode.WRAP: (0, 1, 2, 0, 1, 2, 0, 1)}
        assert tokens[-8:] == list(window[mode])
        if mode is SetMode.WRAP:
            assert tokens[14:21] == [0, 1, 99, 0, 0, 0, 0]

    bench.run(testbench)


def test_loop_forward():
    """The target of a loop must not lie behind it."""
    bench = Bench()

    async def testbench(ctx):
        await bench.ring(ctx, [LOAD, encode(Opcode.LOOP, register=16, target=2), LOAD])
        assert await bench.finish(ctx) == (ErrorCode.BAD_FIELD, 1, 0)

    bench.run(testbench)


def test_read(seed: int):
    """What is read decides on what is fetched next."""
    bench = Bench(seed=seed)
    commands = [READ, encode(Opcode.SET, register=5, x=3, factor=1, shift=20), encode(Opcode.SET, register=6, y=5, addend=9)]
    commands.append(encode(Opcode.LOAD_VECTOR, blocks=1, modifier_word_0=2, modifier_register_0=6))

    async def testbench(ctx):
        await bench.ring(ctx, commands)
        assert await bench.finish(ctx) == (ErrorCode.NONE, 0, 0)
        bench.check(commands)
        assert [e[3] for e in bench.events if e[0] == "request"] == [64 * ((bench.values[0] >> 20) + 9)]

    bench.run(testbench)


def test_cycles_of_a_command():
    """As many for each, one more for a read, two for each modifier, and more for `SET`."""
    bench = Bench()

    modified = {"modifier_word_0": 3, "modifier_word_1": 4, "modifier_register_1": 2}
    commands = [STORE, LOAD, GEMV, FENCE, STORE, encode(Opcode.SET), STORE, encode(Opcode.STORE, count=1, **modified), STORE]

    async def testbench(ctx):
        await bench.ring(ctx, commands)
        await bench.finish(ctx)

    bench.run(testbench)
    ends = [cycle for cycle, event in zip(bench.cycles, bench.events, strict=True) if event[0] in ("operation", "fence")]
    usual = Interpreter.command_cycles
    expected = [usual, usual + 1, usual + 1, usual, usual + (usual + Interpreter.set_cycles), usual + 4, usual]
    assert [after - before for before, after in zip(ends, ends[1:], strict=False)] == expected


@pytest.mark.parametrize("code", [ErrorCode.OUT_OF_RANGE, ErrorCode.MISALIGNED])
def test_a_run_that_can_not_begin(code: ErrorCode):
    """Nothing is read, whether the queue is empty or not, and the next run works."""
    bench = Bench()

    async def testbench(ctx):
        for length in (0, 1, MAX_COMMANDS):
            ctx.set(bench.dut.code, code)
            await bench.ring(ctx, [FENCE], length)
            assert await bench.finish(ctx) == (code, 0, 0)
            assert bench.events == [("done",)]
        ctx.set(bench.dut.code, ErrorCode.NONE)
        await works(ctx, bench)

    bench.run(testbench)


def test_the_longest_queue():
    bench = Bench()

    async def testbench(ctx):
        ctx.set(bench.watchdog.limit, 100)
        await bench.ring(ctx, [FENCE], MAX_COMMANDS)
        # There are not as many commands as the queue is said to have: that is for the watchdog.
        assert await bench.finish(ctx) == (ErrorCode.WATCHDOG, 0, 0)
        assert ("fetch",) in bench.events

    bench.run(testbench)


def test_empty_queue():
    bench = Bench()

    async def testbench(ctx):
        await bench.ring(ctx, [])
        assert await bench.finish(ctx) == (ErrorCode.NONE, 0, 0)
        assert bench.events == [("done",)]
        await bench.ring(ctx, [LOAD])
        await bench.finish(ctx)
        bench.check([LOAD])

    bench.run(testbench)


BAD = {
    ErrorCode.BAD_OPCODE: bytes(64),
    ErrorCode.BAD_FIELD: FENCE[:-1] + b"\x80",
    ErrorCode.OUT_OF_RANGE: encode(Opcode.LOAD_VECTOR, source=64),
}


@pytest.mark.parametrize("code", BAD, ids=lambda c: c.name)
@pytest.mark.parametrize("stall", STALLS)
def test_bad_command(code: ErrorCode, stall: float, seed: int):
    """What was before it completes, what is after it does not start, and the next run works."""
    bench, chance = Bench(seed=seed, stall=stall, work=80), random.Random(seed)
    assert check(BAD[code], bench.config) is code

    async def testbench(ctx):
        for place in (0, 1, 6):
            good = [*program(bench.config, chance, place, jumps=False), BAD[code], GEMV, FENCE]
            bench.settle = chance.choice((0, 1, 30))
            start = len(bench.facts)
            await bench.ring(ctx, good)
            assert await bench.finish(ctx) == (code, place, 0)
            bench.check(good, place)
            facts = bench.facts[start:]
            abort = next(n for n in range(len(facts)) if facts[n]["flush"] and not facts[n - 1]["flush"] and n > 1)
            assert facts[abort - 1]["drained"]
            assert facts[abort - 1]["fence"]
            assert all(f["flush"] for f in facts[abort:])
            assert facts[-2]["quiet"]
            assert sum(f["command"] for f in facts) == place
            good = program(bench.config, chance, 5)
            await bench.ring(ctx, good)
            assert await bench.finish(ctx) == (ErrorCode.NONE, 0, 0)
            bench.check(good)

    bench.run(testbench)


#: A state that the sequencer stays in: the program, what holds it there, and the fact that tells.
PLACES: dict[str, tuple[list[bytes], str]] = {
    "before a command": ([LOAD], "fetch"),
    "at a request": ([LOAD, GEMV], "request"),
    "at an operation": ([LOAD, STORE], "operation"),
    "at a fence": ([LOAD, FENCE], "work"),
    "at a bad command": ([LOAD, bytes(64)], "work"),
    "at the end": ([LOAD], "work"),
}


async def hold(ctx, bench: Bench, place: str) -> None:
    """Start a run and get it stuck."""
    commands, what = PLACES[place]
    bench.holding = what == "work"
    for name, sink in (("request", bench.request), ("operation", bench.operation)):
        sink.limit = len(sink.payloads) + (len(commands) - 1 if what == name else len(commands))
    await bench.ring(ctx, commands, length=len(commands) + (what == "fetch"))
    await ctx.tick().repeat(80)
    assert ctx.get(bench.dut.running)


def release(bench: Bench) -> None:
    bench.holding = False
    bench.request.limit = bench.operation.limit = None


async def works(ctx, bench: Bench) -> None:
    """The next run is like any other."""
    release(bench)
    bench.settle = 0
    await bench.ring(ctx, [LOAD, GEMV, FENCE])
    assert await bench.finish(ctx) == (ErrorCode.NONE, 0, 0)
    bench.check([LOAD, GEMV, FENCE])


@pytest.mark.parametrize("place", PLACES)
def test_bus_error(place: str):
    """It stops the run wherever it is, at once, and the masters are left alone until they are idle."""
    bench = Bench()
    errors = {
        "read": (ErrorCode.READ_ERROR, 0x1234, 0x12_3456_7890),
        "write": (ErrorCode.WRITE_ERROR, 0x4321, 0x98_7654_3210),
    }

    async def testbench(ctx):
        dut = bench.dut
        for kinds, settle in (("read",), 0), (("read",), 25), (("write",), 1), (("read", "write"), 3):
            await hold(ctx, bench, place)
            bench.settle = settle
            for kind, (_, command, address) in errors.items():
                ctx.set(getattr(dut, f"{kind}_error").valid, kind in kinds)
                ctx.set(getattr(dut, f"{kind}_error").address, address)
                ctx.set(getattr(dut, f"{kind}_error").command, command)
            start = len(bench.facts)
            # Of two at once the read is reported.
            assert await bench.finish(ctx) == errors[kinds[0]]
            facts = bench.facts[start:]
            assert [f["aborting"] for f in facts] == [0, 1] + [0] * (settle + 3)
            assert [f["flush"] for f in facts] == [0, 0] + [1] * (settle + 3)
            assert [f["quiet"] for f in facts] == [0] * (settle + 3) + [1, 1]
            await works(ctx, bench)

    bench.run(testbench)


@pytest.mark.parametrize("kind", ["read", "write"])
def test_bus_error_at_any_time(kind: str, seed: int):
    """In whichever cycle of a run it comes, its code is reported, nothing hangs, and the next run works."""
    bench, chance = Bench(seed=seed, stall=0.3, work=8), random.Random(seed)
    code = ErrorCode.READ_ERROR if kind == "read" else ErrorCode.WRITE_ERROR

    async def testbench(ctx):
        for delay in range(40, 112, 3):
            commands = program(bench.config, chance, 12, jumps=False)
            bench.settle = chance.randrange(5)
            ctx.set(getattr(bench.dut, f"{kind}_error").command, delay)
            ctx.set(getattr(bench.dut, f"{kind}_error").address, 64 * delay)
            await bench.ring(ctx, commands)
            await ctx.tick().repeat(delay)
            assert ctx.get(bench.dut.running)
            ctx.set(getattr(bench.dut, f"{kind}_error").valid, 1)
            assert await bench.finish(ctx) == (code, delay, 64 * delay)
            # A command may have been begun and not passed on.
            begun = interpret(commands, bench.config, [*bench.values, *[0] * len(commands)])
            found = [e[0] for e in bench.events if e[0] in ("request", "operation", "fence")]
            assert found == [e[0] for e in begun][: len(found)]
            await works(ctx, bench)

    bench.run(testbench)


@pytest.mark.parametrize("place", PLACES)
def test_watchdog(place: str):
    """It ends a run that is stuck, wherever it is."""
    bench = Bench()
    limit = 100

    async def testbench(ctx):
        bench.settle = 7
        ctx.set(bench.progress, 1)
        await hold(ctx, bench, place)
        ctx.set(bench.dut.expired_command, 77)
        ctx.set(bench.watchdog.limit, limit)
        ctx.set(bench.progress, 0)
        start = len(bench.facts)
        assert await bench.finish(ctx) == (ErrorCode.WATCHDOG, 77, 0)
        facts = bench.facts[start:]
        assert [n for n, f in enumerate(facts) if f["aborting"]] == [limit + 1]
        assert not any(f["flush"] for f in facts[: limit + 2])
        assert all(f["flush"] for f in facts[limit + 2 :])
        await works(ctx, bench)

    bench.run(testbench)


@pytest.mark.parametrize("place", PLACES)
def test_watchdog_off(place: str):
    bench = Bench()

    async def testbench(ctx):
        await hold(ctx, bench, place)
        await ctx.tick().repeat(500)
        assert ctx.get(bench.dut.running)
        assert bench.error(ctx) in ((ErrorCode.NONE, 0, 0), (ErrorCode.BAD_OPCODE, 1, 0))
        release(bench)
        ctx.set(bench.dut.read_error.valid, 1)
        await bench.finish(ctx)
        await works(ctx, bench)

    bench.run(testbench)


@pytest.mark.parametrize("cause", ["watchdog", "read", "write", "command"])
def test_bus_never_quiet(cause: str):
    """The run ends when the watchdog has expired again, and keeps the index of the command that failed first."""
    bench = Bench()
    limit = 100

    async def testbench(ctx):
        dut = bench.dut
        bench.settle = None
        await hold(ctx, bench, "at a bad command" if cause == "command" else "at a fence")
        failing = 1 if cause == "command" else 5
        ctx.set(dut.expired_command, failing)
        start = len(bench.facts)
        if cause == "command":
            bench.holding = False
            await ctx.tick()
        elif cause != "watchdog":
            ctx.set(getattr(dut, f"{cause}_error").command, failing)
            ctx.set(getattr(dut, f"{cause}_error").address, 0x1240)
            ctx.set(getattr(dut, f"{cause}_error").valid, 1)
            await ctx.tick()
        ctx.set(bench.progress, 1)
        await ctx.tick()
        ctx.set(bench.progress, 0)
        ctx.set(bench.watchdog.limit, limit)
        assert await bench.finish(ctx) == (ErrorCode.WATCHDOG, failing, 0)
        assert sum(f["aborting"] for f in bench.facts[start:]) == (cause != "command")
        # As long as the bus is not quiet, so do all runs that follow, before they read anything.
        for _ in range(2):
            await bench.ring(ctx, [LOAD])
            assert await bench.finish(ctx) == (ErrorCode.WATCHDOG, 0, 0)
            assert bench.events == [("done",)]
        # One that waits when the bus falls quiet goes on.
        release(bench)
        await bench.ring(ctx, [LOAD])
        await ctx.tick().repeat(limit - 10)
        assert ctx.get(dut.flush)
        bench.settle = 0
        ctx.set(bench.progress, 1)
        assert await bench.finish(ctx) == (ErrorCode.NONE, 0, 0)
        bench.check([LOAD])
        await works(ctx, bench)

    bench.run(testbench)


@pytest.mark.parametrize("settle", [0, 1, 20, 100])
def test_the_end_waits_for_reads_in_vain(settle: int):
    """All is done, and beats are still to come: a run ends when the bus is quiet."""
    bench = Bench()

    async def testbench(ctx):
        for _ in range(2):
            bench.settle = settle
            start = len(bench.facts)
            await bench.ring(ctx, [LOAD])
            assert await bench.finish(ctx) == (ErrorCode.NONE, 0, 0)
            bench.check([LOAD])
            facts = bench.facts[start:]
            end = next(n for n, f in enumerate(facts) if f["drained"] and f["drain"])
            assert [f["flush"] for f in facts[end:]] == [0] + [1] * (settle + 3)
            assert [f["drain"] for f in facts[end:]] == [1] * (settle + 3) + [0]
            assert [f["quiet"] for f in facts[end:]] == [0] * (settle + 2) + [1, 1]

    bench.run(testbench)


def test_reads_in_vain_that_never_come():
    """The watchdog names the last command: all of them are done."""
    bench = Bench()

    async def testbench(ctx):
        bench.settle = None
        ctx.set(bench.dut.expired_command, 77)
        ctx.set(bench.watchdog.limit, 200)
        await bench.ring(ctx, [LOAD, STORE, FENCE])
        assert await bench.finish(ctx) == (ErrorCode.WATCHDOG, 2, 0)
        ctx.set(bench.watchdog.limit, NO_WATCHDOG)
        await works(ctx, bench)

    bench.run(testbench)


def test_start_of_the_next_run_clears_the_error():
    bench = Bench()

    async def testbench(ctx):
        await bench.ring(ctx, [bytes(64)])
        await bench.finish(ctx)
        await ctx.tick().repeat(50)
        assert bench.error(ctx) == (ErrorCode.BAD_OPCODE, 0, 0)
        bench.holding = True
        await bench.ring(ctx, [LOAD])
        assert bench.error(ctx) == (ErrorCode.NONE, 0, 0)
        bench.holding = False
        await bench.finish(ctx)

    bench.run(testbench)


def test_facts_for_the_counters():
    """`fence` while a fence or a failed command waits, `drain` while the end does."""
    bench = Bench()

    async def testbench(ctx):
        for place, fact in (("at a fence", "fence"), ("at a bad command", "fence"), ("at the end", "drain")):
            await hold(ctx, bench, place)
            assert (ctx.get(bench.dut.fence), ctx.get(bench.dut.drain)) == (fact == "fence", fact == "drain")
            release(bench)
            await bench.finish(ctx)
        for place in ("before a command", "at a request", "at an operation"):
            await hold(ctx, bench, place)
            assert not ctx.get(bench.dut.fence)
            assert not ctx.get(bench.dut.drain)
            ctx.set(bench.dut.read_error.valid, 1)
            await bench.finish(ctx)

    bench.run(testbench)
