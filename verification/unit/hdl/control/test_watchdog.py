import inspect
import random

import pytest
from amaranth.sim import Simulator

from tailrace.hdl.control.watchdog import Watchdog
from tailrace.spec.registers import DEFAULT_WATCHDOG_CYCLES, NO_WATCHDOG

#: What a limit of 0 stands for here; the real one would take too long.
DEFAULT = 77


def run(cycles: list[tuple[int, int, int]]) -> list[int]:
    """`expired` in each cycle of (running, progress, limit)."""
    dut = Watchdog(DEFAULT)
    expired = []

    async def testbench(ctx):
        # The limit stands when a run begins.
        ctx.set(dut.limit, cycles[0][2])
        await ctx.tick()
        for running, progress, limit in cycles:
            ctx.set(dut.running, running)
            ctx.set(dut.progress, progress)
            ctx.set(dut.limit, limit)
            expired.append(ctx.get(dut.expired))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return expired


@pytest.mark.parametrize("limit", [1, 2, 7, 300])
def test_after_limit_cycles(limit: int):
    assert run([(1, 0, limit)] * (limit + 5)) == [0] * limit + [1] * 5


def test_zero_is_the_default():
    assert run([(1, 0, 0)] * (DEFAULT + 5)) == [0] * DEFAULT + [1] * 5
    assert inspect.signature(Watchdog).parameters["default"].default == 1 << 20 == DEFAULT_WATCHDOG_CYCLES


def test_never():
    assert not any(run([(1, 0, NO_WATCHDOG)] * 2000))


def test_not_running():
    assert not any(run([(0, 0, 3)] * 50))
    # A run starts with a count of its own.
    assert run([(0, 0, 3)] * 50 + [(1, 0, 3)] * 4)[50:] == [0, 0, 0, 1]


def test_progress_starts_again():
    assert run([(1, 0, 3), (1, 0, 3), (1, 1, 3)] * 20) == [0] * 60
    assert run([(1, 0, 3)] * 4 + [(1, 1, 3)] + [(1, 0, 3)] * 4) == [0, 0, 0, 1, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("limit", [NO_WATCHDOG, 1, 2, 5, 20])
def test_random(limit: int, seed: int):
    chance = random.Random(seed)
    cycles = [(chance.random() < 0.97, chance.random() < 0.1, limit) for _ in range(1000)]
    quiet, expected = 0, []
    for running, progress, _ in cycles:
        # As it stands in a register, it outlasts the run by a cycle.
        expected.append(int(quiet >= limit))
        quiet = 0 if progress or not running else quiet + 1
    assert any(expected) == (limit != NO_WATCHDOG)
    assert run(cycles) == expected
