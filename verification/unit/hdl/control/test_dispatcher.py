import random

import pytest

from tailrace.hdl.control.command_fetch import AHEAD
from tailrace.hdl.control.dispatcher import COUNT_BITS, MAX_LEAD, Dispatcher
from tailrace.spec.commands import encode
from tailrace.spec.isa import ANY_PENDING, VECTOR_OPCODES, Opcode

from ..simulate import simulate
from .bench import STALLS, Clock, Source

MATRIX, VECTOR = "matrix", "vector"


class Units:
    """Both units: the matrix unit takes up to two operations at once, the vector unit one, which it takes when it is finished."""

    def __init__(self, dut: Dispatcher, clock: Clock, seed: int, work: int) -> None:
        self.dut, self.clock, self.work = dut, clock, work
        self.chance = random.Random(seed)
        #: (index, cycle in which it could start) and (index, cycle from which on it is finished).
        self.started: dict[str, list[tuple[int, int]]] = {MATRIX: [], VECTOR: []}
        self.finished: dict[str, list[tuple[int, int]]] = {MATRIX: [], VECTOR: []}
        self.order: list[int] = []

    async def matrix(self, ctx):
        left: list[tuple[int, int]] = []
        stream = self.dut.matrix
        while True:
            ctx.set(stream.ready, len(left) < 2)
            done = bool(left) and left[0][1] <= self.clock.now
            ctx.set(self.dut.matrix_finished, done)
            if done:
                self.finished[MATRIX].append((left.pop(0)[0], self.clock.now + 1))
            _, _, valid, ready, payload = await ctx.tick().sample(stream.valid, stream.ready, stream.payload)
            if valid and ready:
                self.started[MATRIX].append((payload.index, self.clock.now - 1))
                left.append((payload.index, self.clock.now + self.chance.randint(0, self.work)))

    async def vector(self, ctx):
        stream = self.dut.vector
        while True:
            ctx.set(stream.ready, 0)
            ctx.set(self.dut.vector_finished, 0)
            while not ctx.get(stream.valid):
                await ctx.tick()
            index = ctx.get(stream.payload).index
            self.started[VECTOR].append((index, self.clock.now))
            for _ in range(self.chance.randint(0, self.work)):
                await ctx.tick()
                assert ctx.get(stream.valid)
                assert ctx.get(stream.payload).index == index
            ctx.set(stream.ready, 1)
            ctx.set(self.dut.vector_finished, 1)
            self.finished[VECTOR].append((index, self.clock.now + 1))
            await ctx.tick()


class Busy:
    """Each unit is busy in the cycles in which it is offered an operation, or works at one, and in no other."""

    def __init__(self, dut: Dispatcher) -> None:
        self.dut = dut
        self.cycles: dict[str, list[bool]] = {MATRIX: [], VECTOR: []}

    async def watch(self, ctx):
        at_work = {MATRIX: 0, VECTOR: 0}
        names = [(name, getattr(self.dut, name)) for name in (MATRIX, VECTOR)]
        signals = [
            (getattr(self.dut, f"{name}_busy"), stream.valid, stream.ready, getattr(self.dut, f"{name}_finished"))
            for name, stream in names
        ]
        while True:
            _, _, *values = await ctx.tick().sample(*signals[0], *signals[1])
            for (name, _), (busy, valid, ready, finished) in zip(names, (values[:4], values[4:]), strict=True):
                assert busy == bool(valid or at_work[name]), f"{name}, cycle {len(self.cycles[name])}"
                at_work[name] += (valid and ready) - finished
                self.cycles[name].append(bool(busy))


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("work", [1, 8, 40])
def test_order_and_dependencies(stall: float, work: int, seed: int):
    """Each unit works in program order, and nothing starts before what it waits for; nothing waits for more."""
    chance = random.Random(seed)
    opcodes = [chance.choice((Opcode.GEMV, chance.choice(VECTOR_OPCODES))) for _ in range(150)]
    pendings = [chance.choice((0, 1, 2, ANY_PENDING)) for _ in opcodes]
    payloads = [
        {"command": int.from_bytes(encode(o, pending=p), "little"), "index": n}
        for n, (o, p) in enumerate(zip(opcodes, pendings, strict=True))
    ]
    dut, clock = Dispatcher(), Clock()
    units, busy = Units(dut, clock, seed, work), Busy(dut)
    source = Source(dut.i, payloads, clock, seed, stall)

    async def testbench(ctx):
        await source.run(ctx)
        while not ctx.get(dut.idle):
            await ctx.tick()

    simulate(dut, testbench, background=(clock.run, units.matrix, units.vector, busy.watch))
    assert all({*cycles} == {False, True} for cycles in busy.cycles.values())
    side = [MATRIX if o is Opcode.GEMV else VECTOR for o in opcodes]
    starts = {i: c for name in (MATRIX, VECTOR) for i, c in units.started[name]}
    ends = {i: c for name in (MATRIX, VECTOR) for i, c in units.finished[name]}
    assert len(starts) == len(ends) == len(opcodes)
    for name in (MATRIX, VECTOR):
        assert [i for i, _ in units.started[name]] == [n for n, s in enumerate(side) if s == name]
    overlapped = 0
    for n, (mine, pending) in enumerate(zip(side, pendings, strict=True)):
        others = [i for i in range(n) if side[i] != mine]
        unfinished = sum(ends[i] > starts[n] for i in others)
        overlapped += unfinished > 0
        if pending != ANY_PENDING:
            assert unfinished <= pending, f"operation {n} started with {unfinished} before it unfinished, {pending} allowed"
    assert work == 1 or overlapped > 10


def test_latency():
    dut = Dispatcher()

    async def testbench(ctx):
        ctx.set(dut.i.payload, {"command": int(Opcode.STORE), "index": 10})
        ctx.set(dut.i.valid, 1)
        for _ in range(Dispatcher.latency):
            assert not ctx.get(dut.vector.valid)
            await ctx.tick()
        assert ctx.get(dut.vector.valid)

    simulate(dut, testbench)


def test_counts(seed: int):
    """`vector_unfinished` counts what was taken and is not finished; `command` is the operation that started last."""
    dut, clock = Dispatcher(), Clock()

    async def testbench(ctx):
        assert ctx.get(dut.idle)
        for n in range(5):
            ctx.set(dut.i.payload, {"command": int(Opcode.STORE), "index": 10 + n})
            ctx.set(dut.i.valid, 1)
            await ctx.tick()
        ctx.set(dut.i.valid, 0)
        await ctx.tick()
        assert not ctx.get(dut.idle)
        assert ctx.get(dut.vector_busy)
        for n in range(5):
            # From one operation to the next.
            await ctx.tick().repeat(2)
            assert (ctx.get(dut.vector_unfinished), ctx.get(dut.command)) == (5 - n, 10 + n)
            ctx.set(dut.vector.ready, 1)
            ctx.set(dut.vector_finished, 1)
            await ctx.tick()
            ctx.set(dut.vector.ready, 0)
            ctx.set(dut.vector_finished, 0)
            await ctx.tick()
        assert ctx.get(dut.idle)
        assert not ctx.get(dut.vector_busy)

    simulate(dut, testbench, background=(clock.run,))


def payload(opcode: Opcode, pending: int, index: int) -> dict[str, int]:
    return {"command": int.from_bytes(encode(opcode, pending=pending), "little"), "index": index}


@pytest.mark.parametrize("ahead", [MATRIX, VECTOR])
@pytest.mark.parametrize("count", [1, 64, 130, 255, 600])
def test_lead(ahead: str, count: int):
    """A unit gets ahead of the other by `MAX_LEAD` + 1 operations at most, and whatever the lead, what waits starts in the end.

    The unit that is left behind works for long at its first operation, and has a second one that waits for the other unit's
    operation before it, which is done long since. The other unit does `count` operations meanwhile that wait for nothing.
    """
    fast, slow = (Opcode.GEMV, Opcode.STORE) if ahead == MATRIX else (Opcode.STORE, Opcode.GEMV)
    dut, clock = Dispatcher(), Clock()
    behind = VECTOR if ahead == MATRIX else MATRIX
    done: list[int] = []
    started: list[int] = []

    async def quick(ctx):
        stream = getattr(dut, ahead)
        ctx.set(stream.ready, 1)
        while True:
            _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
            ctx.set(getattr(dut, f"{ahead}_finished"), valid)
            if valid:
                done.append(payload.index)

    async def long(ctx):
        stream = getattr(dut, behind)
        for work in (2 * min(count, 300) + 50, 1):
            while not ctx.get(stream.valid):
                await ctx.tick()
            started.append(ctx.get(stream.payload).index)
            await ctx.tick().repeat(work)
            if len(started) == 1:
                lead = len(done) - 1
                assert lead == count if count <= MAX_LEAD else MAX_LEAD <= lead <= MAX_LEAD + 1
            ctx.set(stream.ready, 1)
            ctx.set(getattr(dut, f"{behind}_finished"), 1)
            await ctx.tick()
            ctx.set(stream.ready, 0)
            ctx.set(getattr(dut, f"{behind}_finished"), 0)

    operations = [
        payload(fast, ANY_PENDING, 0),
        payload(slow, ANY_PENDING, 1),
        payload(slow, 0, 2),
        *(payload(fast, ANY_PENDING, 3 + n) for n in range(count)),
    ]
    source = Source(dut.i, operations, clock)

    async def testbench(ctx):
        await source.run(ctx)
        while not ctx.get(dut.idle):
            await ctx.tick()

    simulate(dut, testbench, background=(clock.run, quick, long))
    assert started == [1, 2]
    assert done == [0, *range(3, 3 + count)]


def test_command_fetch_reads_less_far_ahead_than_a_count_tells():
    assert AHEAD < 1 << (COUNT_BITS - 1)


@pytest.mark.parametrize("name", [MATRIX, VECTOR])
def test_begins(name: str):
    """The probe tells the start of an operation once: when the matrix unit takes it, when the vector unit is first offered it."""
    opcode = Opcode.GEMV if name == MATRIX else Opcode.STORE
    dut, clock = Dispatcher(), Clock()
    starts: list[tuple[int, int]] = []
    commands: list[int] = []
    taken: list[int] = []
    offered: list[int] = []

    async def watch(ctx):
        stream = getattr(dut, name)
        values = dut.probe[f"{name}_start"], dut.probe[f"{name}_index"], stream.valid, stream.ready, dut.command
        while True:
            _, _, start, index, valid, ready, command = await ctx.tick().sample(*values)
            now = clock.now - 1
            commands.append(command)
            if start:
                starts.append((now, index))
            if valid and len(offered) == len(taken):
                offered.append(now)
            if valid and ready:
                taken.append(now)

    async def testbench(ctx):
        stream, finished = getattr(dut, name), getattr(dut, f"{name}_finished")
        for index in (7, 9, 12):
            ctx.set(dut.i.payload, payload(opcode, ANY_PENDING, index))
            ctx.set(dut.i.valid, 1)
            await ctx.tick()
        ctx.set(dut.i.valid, 0)
        for work in (5, 1, 9):
            while not ctx.get(stream.valid):
                await ctx.tick()
            await ctx.tick().repeat(work)
            ctx.set(stream.ready, 1)
            # What the matrix unit has taken is at work there, and not finished.
            ctx.set(finished, name == VECTOR)
            await ctx.tick()
            ctx.set(stream.ready, 0)
            ctx.set(finished, 0)
        await ctx.tick().repeat(3)

    simulate(dut, testbench, background=(clock.run, watch))
    assert starts == list(zip(taken if name == MATRIX else offered, (7, 9, 12), strict=True))
    # The index of the operation at work, from two cycles after its start on.
    assert [commands[now + 2] for now, _ in starts] == [7, 9, 12]
    assert commands[-1] == 12


def test_what_hangs_is_named():
    """An operation of the vector unit that waits is named, not one of the matrix unit that started later and has finished."""
    dut = Dispatcher()

    async def issue(ctx, opcode: Opcode, pending: int, index: int) -> None:
        ctx.set(dut.i.payload, payload(opcode, pending, index))
        ctx.set(dut.i.valid, 1)
        await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)

    async def product(ctx) -> None:
        ctx.set(dut.matrix.ready, 1)
        await ctx.tick().until(dut.matrix.valid)
        ctx.set(dut.matrix.ready, 0)
        await ctx.tick().repeat(10)

    async def finish(ctx) -> None:
        ctx.set(dut.matrix_finished, 1)
        await ctx.tick()
        ctx.set(dut.matrix_finished, 0)
        await ctx.tick().repeat(10)

    async def testbench(ctx):
        await issue(ctx, Opcode.GEMV, 0, 3)
        await issue(ctx, Opcode.STORE, 0, 5)
        await product(ctx)
        assert ctx.get(dut.command) == 3
        await finish(ctx)
        # It may start now, and the vector unit never finishes it; the matrix unit does one more.
        assert ctx.get(dut.command) == 5
        await issue(ctx, Opcode.GEMV, ANY_PENDING, 8)
        await product(ctx)
        assert ctx.get(dut.command) == 8
        await finish(ctx)
        assert not ctx.get(dut.idle)
        assert ctx.get(dut.command) == 5

    simulate(dut, testbench)
