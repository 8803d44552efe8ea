"""Runs testbenches on a design in Amaranth's simulator, and not for ever."""

from collections.abc import Callable, Sequence
from typing import Any

from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator


def simulate(
    design: Any, *testbenches: Callable[..., Any], background: Sequence[Callable[..., Any]] = (), limit: int = 50_000
) -> None:
    """Run until all testbenches have returned; fail if they have not after `limit` cycles."""

    async def deadline(ctx: Any) -> None:
        now = 0
        async for _ in ctx.tick():
            now += 1
            assert now < limit, f"no end after {limit} cycles"

    m = Module()
    # A combinational block has no clock, but the limit needs one.
    m.domains.sync = ClockDomain()
    m.submodules.design = design
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    for one in (deadline, *background):
        simulator.add_testbench(one, background=True)
    for one in testbenches:
        simulator.add_testbench(one)
    simulator.run()
