import random
from typing import Any

import pytest

from tailrace.hdl.vector.results import ResultRouter

from ..simulate import simulate
from .bench import STALLS, Cycles, config, receive, send


@pytest.mark.parametrize("seed", STALLS)
@pytest.mark.parametrize("depth", [2, 4])
def test_every_result_goes_where_its_command_says(depth: int, seed: int | None) -> None:
    dut = ResultRouter(config(result_entries=256), depth)
    rng = random.Random(9)
    jobs = [(rng.random() < 0.5, rng.randrange(200), rng.choice([1, 1, 2, 3, 17, 40])) for _ in range(40)]
    values = [rng.getrandbits(32) for _ in range(sum(count for _, _, count in jobs))]
    expected_out, expected_kept = [], []
    rest = iter(values)
    for keep, offset, count in jobs:
        for n in range(count):
            if keep:
                expected_kept.append((offset + n, next(rest)))
            else:
                expected_out.append(next(rest))
    kept: list[tuple[int, int]] = []
    cycles = Cycles()

    async def writes(ctx: Any) -> None:
        port = dut.write
        async for _, _, enable, address, value in ctx.tick().sample(port.enable, port.address, port.data):
            if enable:
                kept.append((address, value))

    async def commands(ctx: Any) -> None:
        payloads = [{"keep": keep, "offset": offset, "entries": count} for keep, offset, count in jobs]
        await send(ctx, dut.command, payloads, seed)

    async def data(ctx: Any) -> None:
        # The first result waits two cycles for its command.
        start = cycles.now + 2
        await send(ctx, dut.i, values, None if seed is None else seed + 100)
        if seed is None:
            assert cycles.now - start == len(values)
        # Busy for one more cycle if the last result goes to the buffer.
        assert ctx.get(dut.idle) == (not jobs[-1][0])
        await ctx.tick()
        assert ctx.get(dut.idle)
        assert kept == expected_kept

    async def results(ctx: Any) -> None:
        assert await receive(ctx, dut.o, len(expected_out), None if seed is None else seed + 200) == expected_out

    simulate(dut, commands, data, results, background=[cycles.count, writes])


def test_commands_wait_ahead_of_the_results() -> None:
    depth = 4
    dut = ResultRouter(config(), depth)

    async def testbench(ctx: Any) -> None:
        assert ctx.get(dut.idle)
        await send(ctx, dut.command, [{"keep": 1, "offset": n, "entries": 1} for n in range(depth + 1)])
        assert not ctx.get(dut.command.ready)
        assert not ctx.get(dut.idle)
        await send(ctx, dut.i, range(depth + 1))
        assert ctx.get(dut.command.ready)
        assert not ctx.get(dut.idle)
        await ctx.tick()
        assert ctx.get(dut.idle)

    simulate(dut, testbench)


def test_is_busy_from_the_command_on() -> None:
    dut = ResultRouter(config())

    async def testbench(ctx: Any) -> None:
        ctx.set(dut.command.payload, {"keep": 0, "offset": 0, "entries": 1})
        ctx.set(dut.command.valid, 1)
        for _ in range(4):
            assert not ctx.get(dut.idle)
            await ctx.tick()
            ctx.set(dut.command.valid, 0)

    simulate(dut, testbench)


def test_takes_nothing_without_a_command() -> None:
    dut = ResultRouter(config())

    async def testbench(ctx: Any) -> None:
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        for _ in range(3):
            assert not ctx.get(dut.i.ready)
            assert not ctx.get(dut.o.valid)
            await ctx.tick()

    simulate(dut, testbench)


def test_a_kept_result_does_not_wait_for_memory() -> None:
    dut = ResultRouter(config())

    async def testbench(ctx: Any) -> None:
        await send(ctx, dut.command, [{"keep": 1, "offset": 3, "entries": 2}, {"keep": 0, "offset": 0, "entries": 1}])
        ctx.set(dut.o.ready, 0)
        await send(ctx, dut.i, [11, 12])
        assert ctx.get(dut.write.enable)
        assert (ctx.get(dut.write.address), ctx.get(dut.write.data)) == (4, 12)
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.payload, 13)
        assert not ctx.get(dut.i.ready)
        assert ctx.get(dut.o.valid)
        assert ctx.get(dut.o.payload) == 13

    simulate(dut, testbench)


@pytest.mark.parametrize("depth", [0, 1])
def test_refuses_a_short_queue(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"^depth must be at least 2, not {depth}$"):
        ResultRouter(config(), depth)
