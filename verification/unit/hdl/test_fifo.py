import random
from collections import deque

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.lib import data
from amaranth.sim import Simulator

from tailrace.hdl.fifo import SMALL_DEPTH, StreamFifo

LAYOUT = data.StructLayout({"number": 24, "last": 1})


def run(dut, *testbenches, top=None):
    sim = Simulator(top or dut)
    sim.add_clock(1e-6)
    for testbench in testbenches:
        sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("depth", [1, 2, 3, 4, SMALL_DEPTH, SMALL_DEPTH + 1, 33])
@pytest.mark.parametrize(("give", "take"), [(1.0, 1.0), (0.4, 1.0), (1.0, 0.4), (0.6, 0.5)])
def test_order_and_level(depth, give, take):
    seed = depth
    rng = random.Random(seed)
    dut = StreamFifo(LAYOUT, depth)
    held: deque[tuple[int, int]] = deque()

    async def bench(ctx):
        given, offered, waiting = 0, None, None
        while given < 200:
            if offered is None and rng.random() < give:
                offered = (rng.getrandbits(24), rng.getrandbits(1))
                ctx.set(dut.i.payload, {"number": offered[0], "last": offered[1]})
            ctx.set(dut.i.valid, offered is not None)
            ctx.set(dut.o.ready, rng.random() < take)
            _, _, i_ready, o_valid, o_ready, entry, level = await ctx.tick().sample(
                dut.i.ready, dut.o.valid, dut.o.ready, dut.o.payload, dut.level
            )
            shown = (entry.number, entry.last)
            assert level == len(held), f"seed {seed}"
            if waiting is not None:
                assert o_valid, f"an offer vanished (seed {seed})"
                assert shown == waiting, f"an offer changed (seed {seed})"
            waiting = shown if o_valid and not o_ready else None
            if o_valid and o_ready:
                assert shown == held.popleft(), f"seed {seed}"
                given += 1
            if offered is not None and i_ready:
                held.append(offered)
                offered = None

    run(dut, bench)


@pytest.mark.parametrize(("depth", "latency"), [(1, 1), (2, 1), (SMALL_DEPTH, 1), (SMALL_DEPTH + 1, 2), (100, 2)])
def test_latency_and_capacity(depth, latency):
    dut = StreamFifo(8, depth)
    assert dut.latency == latency

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        for cycle in range(depth):
            assert ctx.get(dut.i.ready)
            assert ctx.get(dut.o.valid) == (cycle >= latency)
            await ctx.tick()
        assert not ctx.get(dut.i.ready)
        assert ctx.get(dut.level) == depth

    run(dut, bench)


@pytest.mark.parametrize("depth", [2, SMALL_DEPTH, SMALL_DEPTH + 1])
def test_an_entry_every_cycle(depth):
    dut = StreamFifo(8, depth)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        for cycle in range(3 * depth):
            ctx.set(dut.i.payload, cycle)
            assert ctx.get(dut.i.ready)
            if cycle >= 2:
                assert ctx.get(dut.o.valid)
            await ctx.tick()

    run(dut, bench)


@pytest.mark.parametrize("depth", [2, SMALL_DEPTH + 1])
def test_reset_empties(depth):
    dut, flush = StreamFifo(8, depth), Signal()

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        await ctx.tick().repeat(3)
        ctx.set(dut.i.valid, 0)
        ctx.set(flush, 1)
        await ctx.tick()
        ctx.set(flush, 0)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.level) == 0
        assert not ctx.get(dut.o.valid)
        ctx.set(dut.i.payload, 77)
        ctx.set(dut.i.valid, 1)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        ctx.set(dut.o.ready, 1)
        assert (await ctx.tick().sample(dut.o.payload).until(dut.o.valid)) == (77,)

    run(dut, bench, top=ResetInserter(flush)(dut))


@pytest.mark.parametrize("depth", [0, -1, 2.0, "4"])
def test_depth_is_checked(depth):
    with pytest.raises(ValueError, match=rf"^depth must be a positive whole number, not {depth!r}$"):
        StreamFifo(8, depth)
