from typing import Any

import pytest
from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.sim import Simulator

from tailrace.hdl.clock_gate import AFTERGLOW, ClockGate


class Gated:
    """Counts the edges of a gated clock."""

    def __init__(self) -> None:
        self.gate, self.edges = ClockGate("part"), Signal(16)

    @property
    def module(self) -> Module:
        m = Module()
        m.domains.part = ClockDomain()
        m.submodules.gate = self.gate
        m.d.part += self.edges.eq(self.edges + 1)
        return m


def simulate(dut: Gated, testbench: Any) -> None:
    simulator = Simulator(dut.module)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("idle", [1, AFTERGLOW - 1, AFTERGLOW, AFTERGLOW + 1, 100])
def test_runs_while_there_is_work_and_a_little_longer(idle: int) -> None:
    """The first edge with work is not missed, and no edge comes after the afterglow."""
    dut = Gated()

    async def testbench(ctx: Any) -> None:
        async def edges(cycles: int) -> int:
            before = ctx.get(dut.edges)
            await ctx.tick().repeat(cycles)
            return int(ctx.get(dut.edges)) - before

        # From reset on it runs, as long as after work.
        assert await edges(AFTERGLOW + 50) == AFTERGLOW
        for length in (1, 7):
            ctx.set(dut.gate.work, 1)
            assert await edges(length) == length
            ctx.set(dut.gate.work, 0)
            assert await edges(idle) == min(idle, AFTERGLOW)
        ctx.set(dut.gate.work, 1)
        assert await edges(3) == 3

    simulate(dut, testbench)
