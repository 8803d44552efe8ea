import random

import pytest
from amaranth.sim import Simulator

from tailrace.hdl.control.watchdog import Watchdog


def run(cycles: list[tuple[int, int, int]]) -> list[int]:
    """`expired` in each cycle of (running, progress, limit)."""
    dut = Watchdog()
    expired = []

    async def testbench(ctx):
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


def test_never():
    assert not any(run([(1, 0, 0)] * 2000))


def test_not_running():
    assert not any(run([(0, 0, 3)] * 50))
    # A run starts with a count of its own.
    assert run([(0, 0, 3)] * 50 + [(1, 0, 3)] * 4)[50:] == [0, 0, 0, 1]


def test_progress_starts_again():
    assert run([(1, 0, 3), (1, 0, 3), (1, 1, 3)] * 20) == [0] * 60
    assert run([(1, 0, 3)] * 4 + [(1, 1, 3)] + [(1, 0, 3)] * 4) == [0, 0, 0, 1, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 20])
def test_random(limit: int, seed: int):
    chance = random.Random(seed)
    cycles = [(chance.random() < 0.97, chance.random() < 0.1, limit) for _ in range(1000)]
    quiet, expected = 0, []
    for running, progress, _ in cycles:
        # As it stands in a register, it outlasts the run by a cycle.
        expected.append(int(limit != 0 and quiet >= limit))
        quiet = 0 if progress or not running else quiet + 1
    assert any(expected) == (limit != 0)
    assert run(cycles) == expected
