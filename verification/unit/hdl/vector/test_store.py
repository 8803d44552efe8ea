import random
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from tailrace.hdl.vector.result_buffer import ResultBuffer
from tailrace.hdl.vector.store import Store

from ..simulate import simulate
from .bench import STALLS, Cycles, config, receive, send


@pytest.mark.parametrize("seed", STALLS)
def test_reads_what_the_buffer_holds(seed: int | None) -> None:
    entries = 256
    settings = config(result_entries=entries)
    m = Module()
    m.submodules.buffer = buffer = ResultBuffer(settings)
    m.submodules.store = store = Store(settings)
    wiring.connect(m, buffer.read, store.read)
    rng = random.Random(5)
    contents = [rng.getrandbits(32) for _ in range(entries)]
    jobs = [(0, 1), (255, 1), (3, 2), (7, 40), (0, 256), (254, 2), (9, 1), (9, 1)]
    expected = [value for offset, count in jobs for value in contents[offset : offset + count]]
    cycles = Cycles()
    filled, started = False, 0

    async def commands(ctx: Any) -> None:
        nonlocal filled, started
        ctx.set(buffer.write.enable, 1)
        for address, value in enumerate(contents):
            ctx.set(buffer.write.address, address)
            ctx.set(buffer.write.data, value)
            await ctx.tick()
        ctx.set(buffer.write.enable, 0)
        assert ctx.get(store.idle)
        filled, started = True, cycles.now
        await send(ctx, store.command, [{"offset": offset, "entries": count} for offset, count in jobs], seed)
        assert ctx.get(store.idle)
        # One cycle to the first entry of each command, then one for each entry.
        if seed is None:
            assert cycles.now - started == len(jobs) + len(expected)

    async def results(ctx: Any) -> None:
        while not filled:
            assert not ctx.get(store.o.valid)
            await ctx.tick()
        assert await receive(ctx, store.o, len(expected), None if seed is None else seed + 100) == expected
        for _ in range(5):
            assert not ctx.get(store.o.valid)
            await ctx.tick()

    simulate(m, commands, results, background=[cycles.count])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_holds_an_entry_until_it_is_taken(seed: int) -> None:
    """A payload stays as it is while it is not taken, and validity is not withdrawn."""
    settings = config(result_entries=64)
    dut = Store(settings)
    stalls = random.Random(seed)

    async def buffer(ctx: Any) -> None:
        async for _, _, address in ctx.tick().sample(dut.read.address):
            ctx.set(dut.read.data, 1000 + address)

    async def command(ctx: Any) -> None:
        await send(ctx, dut.command, [{"offset": 10, "entries": 20}])

    async def watch(ctx: Any) -> None:
        taken = 0
        offered = False
        while taken < 20:
            ready = stalls.random() < 0.3
            ctx.set(dut.o.ready, ready)
            assert not ctx.get(dut.idle)
            valid, payload = ctx.get(dut.o.valid), ctx.get(dut.o.payload)
            assert valid or not offered
            if valid:
                assert payload == 1010 + taken
            offered = bool(valid and not ready)
            taken += valid and ready
            await ctx.tick()
        assert ctx.get(dut.idle)

    simulate(dut, command, watch, background=[buffer])
