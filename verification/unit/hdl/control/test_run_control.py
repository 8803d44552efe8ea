"""What the life of a run is with a program that does what the test says; `test_sequencer.py` has whole programs."""

import random
from typing import Any

import pytest

from tailrace.hdl.control.run_control import RunControl
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ErrorCode
from verification.unit.hdl.simulate import simulate


def error(ctx: Any, dut: RunControl) -> tuple[int, int, int]:
    return ctx.get(dut.error.code), ctx.get(dut.error.command), ctx.get(dut.error.address)


async def begin(ctx: Any, dut: RunControl) -> None:
    """Start a run, on a quiet bus, until its program goes on."""
    ctx.set(dut.quiet, 1)
    ctx.set(dut.ready, 1)
    ctx.set(dut.start, 1)
    await ctx.tick()
    ctx.set(dut.start, 0)
    await ctx.tick().until(dut.go)


async def finish(ctx: Any, dut: RunControl) -> None:
    await ctx.tick().until(dut.done)
    assert not ctx.get(dut.running)


def test_a_program_goes_on_until_it_has_ended_and_all_is_written():
    dut = RunControl(CONFIGS["tiny"])

    async def testbench(ctx):
        assert (ctx.get(dut.flush), ctx.get(dut.go), ctx.get(dut.running)) == (1, 0, 0)
        await begin(ctx, dut)
        ctx.set(dut.quiet, 0)
        assert (ctx.get(dut.flush), ctx.get(dut.running)) == (0, 1)
        await ctx.tick().repeat(20)
        assert (ctx.get(dut.go), ctx.get(dut.drain)) == (1, 0)
        ctx.set(dut.command, 17)
        ctx.set(dut.ended, 1)
        await ctx.tick().repeat(20)
        assert (ctx.get(dut.go), ctx.get(dut.drain), ctx.get(dut.flush)) == (1, 1, 0)
        ctx.set(dut.drained, 1)
        await ctx.tick()
        assert (ctx.get(dut.go), ctx.get(dut.drain), ctx.get(dut.flush)) == (0, 1, 1)
        await ctx.tick().repeat(20)
        assert ctx.get(dut.running)
        ctx.set(dut.quiet, 1)
        await finish(ctx, dut)
        assert error(ctx, dut) == (ErrorCode.NONE, 0, 0)
        assert ctx.get(dut.flush)

    simulate(dut, testbench)


def test_a_command_that_failed_is_reported_when_those_before_it_are_done():
    dut = RunControl(CONFIGS["tiny"])

    async def testbench(ctx):
        await begin(ctx, dut)
        ctx.set(dut.ended_code, ErrorCode.OUT_OF_RANGE)
        ctx.set(dut.command, 17)
        ctx.set(dut.ended, 1)
        await ctx.tick().repeat(20)
        # Not the end of a run: the counters call this time a fence.
        assert (ctx.get(dut.go), ctx.get(dut.drain)) == (1, 0)
        ctx.set(dut.drained, 1)
        await finish(ctx, dut)
        assert error(ctx, dut) == (ErrorCode.OUT_OF_RANGE, 17, 0)

    simulate(dut, testbench)


@pytest.mark.parametrize("ended", [False, True], ids=["at work", "ended"])
@pytest.mark.parametrize(
    ("cause", "code"),
    [("read_error", ErrorCode.READ_ERROR), ("write_error", ErrorCode.WRITE_ERROR), ("expired", ErrorCode.WATCHDOG)],
)
def test_what_stops_a_run_stops_it_at_once(cause: str, code: ErrorCode, ended: bool):
    """Also while the end of a program is waited for, and also if all is drained in the same cycle."""
    dut = RunControl(CONFIGS["tiny"])

    async def testbench(ctx):
        await begin(ctx, dut)
        ctx.set(dut.quiet, 0)
        ctx.set(dut.ended, ended)
        ctx.set(dut.command, 3)
        ctx.set(dut.expired_command, 5)
        for name, command in (("read_error", 6), ("write_error", 7)):
            ctx.set(getattr(dut, name).command, command)
            ctx.set(getattr(dut, name).address, 0x1200 + command)
        await ctx.tick()
        ctx.set(dut.expired if cause == "expired" else getattr(dut, cause).valid, 1)
        await ctx.tick()
        ctx.set(dut.drained, 1)
        assert (ctx.get(dut.aborting), ctx.get(dut.go), ctx.get(dut.flush)) == (1, 0, 0)
        await ctx.tick()
        assert (ctx.get(dut.aborting), ctx.get(dut.go), ctx.get(dut.flush)) == (0, 0, 1)
        for signal in (dut.expired, dut.read_error.valid, dut.write_error.valid):
            ctx.set(signal, 0)
        await ctx.tick().repeat(20)
        assert ctx.get(dut.running)
        ctx.set(dut.quiet, 1)
        await finish(ctx, dut)
        command = {"read_error": 6, "write_error": 7, "expired": 5}[cause]
        assert error(ctx, dut) == (code, command, 0 if cause == "expired" else 0x1200 + command)

    simulate(dut, testbench)


def test_a_read_error_goes_before_a_write_error_and_both_before_the_watchdog():
    for causes, code in (
        (("read_error", "write_error", "expired"), ErrorCode.READ_ERROR),
        (("write_error", "expired"), ErrorCode.WRITE_ERROR),
    ):
        dut = RunControl(CONFIGS["tiny"])

        async def testbench(ctx, dut=dut, causes=causes, code=code):
            await begin(ctx, dut)
            for cause in causes:
                ctx.set(dut.expired if cause == "expired" else getattr(dut, cause).valid, 1)
            await finish(ctx, dut)
            assert ctx.get(dut.error.code) == code

        simulate(dut, testbench)


@pytest.mark.parametrize(("empty", "code"), [(1, ErrorCode.NONE), (0, ErrorCode.MISALIGNED), (1, ErrorCode.MISALIGNED)])
def test_a_run_that_can_not_begin_ends_without_its_program(empty: int, code: ErrorCode):
    dut, chance = RunControl(CONFIGS["tiny"]), random.Random(empty)

    async def testbench(ctx):
        ctx.set(dut.empty, empty)
        ctx.set(dut.code, code)
        for wait in ("ready", "quiet"):
            ctx.set(dut.ready, wait != "ready")
            ctx.set(dut.quiet, wait != "quiet")
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for _ in range(chance.randrange(3, 30)):
                await ctx.tick()
                assert (ctx.get(dut.running), ctx.get(dut.done)) == (1, 0)
            ctx.set(dut.ready, 1)
            ctx.set(dut.quiet, 1)
            ended = False
            while not ended:
                assert (ctx.get(dut.go), ctx.get(dut.flush)) == (0, 1)
                ended = ctx.get(dut.done)
                await ctx.tick()
            assert error(ctx, dut) == (code, 0, 0)

    simulate(dut, testbench)
