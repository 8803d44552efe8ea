import random

import pytest

from tailrace.hdl.control.dispatcher import Dispatcher
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
    units = Units(dut, clock, seed, work)
    source = Source(dut.i, payloads, clock, seed, stall)

    async def testbench(ctx):
        await source.run(ctx)
        while not ctx.get(dut.idle):
            await ctx.tick()

    simulate(dut, testbench, background=(clock.run, units.matrix, units.vector))
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
