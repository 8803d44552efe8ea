from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.sim import Simulator

from tailrace.hdl import top
from tailrace.hdl.axi.lite import AxiLite
from tailrace.hdl.axi.signature import AxiRead, AxiWrite
from tailrace.hdl.control.registers import ControlRegisters
from tailrace.hdl.top import Top
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.registers import ADDRESS_BITS, offset

CONFIG = CONFIGS["tiny"]
HALF_CLOCK = 5e-9


class Registers(wiring.Component):
    """A core's ports, and its registers alone behind them: they show what a reset does, and are quickly simulated."""

    def __init__(self, config: Config, gated: bool) -> None:
        self._config = config
        super().__init__(
            {
                "control": In(AxiLite(ADDRESS_BITS)),
                "read": Out(AxiRead(config.address_width, config.bus_width)).array(config.channels),
                "write": Out(AxiWrite(config.address_width, config.bus_width)).array(config.channels),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.registers = registers = ControlRegisters(self._config)
        connect(m, flipped(self.control), registers.axi)
        m.d.comb += self.interrupt.eq(registers.interrupt)
        return m


class Bench:
    """`Top` with a clock, a reset and a host at its ports."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(top, "Core", Registers)
        self.dut = Top(CONFIG)

    async def tick(self, ctx: Any) -> None:
        """A clock cycle, which ends just after its rising edge."""
        await ctx.delay(HALF_CLOCK)
        ctx.set(self.dut.ap_clk, 1)
        await ctx.delay(HALF_CLOCK)
        ctx.set(self.dut.ap_clk, 0)

    async def transfer(self, ctx: Any, *channels: str, limit: int = 20) -> int:
        """Offer something on channels until all have taken it; returns the cycles that it took."""
        left = set(channels)
        for cycle in range(limit):
            for channel in left:
                ctx.set(getattr(self.dut, f"s_axi_control_{channel}valid"), 1)
            taken = {channel for channel in left if ctx.get(getattr(self.dut, f"s_axi_control_{channel}ready"))}
            await self.tick(ctx)
            for channel in taken:
                ctx.set(getattr(self.dut, f"s_axi_control_{channel}valid"), 0)
            left -= taken
            if not left:
                return cycle
        raise AssertionError(f"{left} not taken in {limit} cycles")

    async def write(self, ctx: Any, name: str, value: int) -> int:
        ctx.set(self.dut.s_axi_control_awaddr, offset(name))
        ctx.set(self.dut.s_axi_control_wdata, value)
        ctx.set(self.dut.s_axi_control_wstrb, 0b1111)
        ctx.set(self.dut.s_axi_control_bready, 1)
        waited = await self.transfer(ctx, "aw", "w")
        # Registers act when their memory is filled.
        for _ in range(40):
            answered = ctx.get(self.dut.s_axi_control_bvalid)
            await self.tick(ctx)
            if answered:
                return waited
        raise AssertionError("no answer")

    async def read(self, ctx: Any, name: str) -> int:
        ctx.set(self.dut.s_axi_control_araddr, offset(name))
        await self.transfer(ctx, "ar")
        for _ in range(40):
            if ctx.get(self.dut.s_axi_control_rvalid):
                break
            await self.tick(ctx)
        assert ctx.get(self.dut.s_axi_control_rvalid)
        value = ctx.get(self.dut.s_axi_control_rdata)
        ctx.set(self.dut.s_axi_control_rready, 1)
        await self.tick(ctx)
        ctx.set(self.dut.s_axi_control_rready, 0)
        return int(value)

    def run(self, story: Any) -> None:
        simulator = Simulator(self.dut)
        simulator.add_testbench(story)
        simulator.run()


@pytest.mark.parametrize("cycles", [1, 2, 3, 16])
def test_reset_goes_through_two_registers(monkeypatch: pytest.MonkeyPatch, cycles: int) -> None:
    """A reset of any length resets all, two cycles later; what a host offers meanwhile is taken after it, not lost."""
    bench = Bench(monkeypatch)

    async def story(ctx: Any) -> None:
        dut = bench.dut
        # In reset from power-up on, also without one from outside.
        ctx.set(dut.ap_rst_n, 1)
        assert await bench.write(ctx, "QUEUE_LENGTH", 77) == 2
        assert await bench.read(ctx, "QUEUE_LENGTH") == 77
        ctx.set(dut.ap_rst_n, 0)
        for _ in range(cycles):
            await bench.tick(ctx)
        ctx.set(dut.ap_rst_n, 1)
        # In the first cycle in which a host may offer something.
        assert await bench.write(ctx, "QUEUE_ADDRESS_LO", 64) == 2
        assert await bench.read(ctx, "QUEUE_ADDRESS_LO") == 64
        assert await bench.read(ctx, "QUEUE_LENGTH") == 0

    bench.run(story)


def test_no_transfer_is_taken_in_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)

    async def story(ctx: Any) -> None:
        dut = bench.dut
        ready = [getattr(dut, f"s_axi_control_{channel}ready") for channel in ("aw", "w", "ar")]
        ctx.set(dut.ap_rst_n, 1)
        for _ in range(4):
            await bench.tick(ctx)
        assert [ctx.get(port) for port in ready] == [1, 1, 1]
        ctx.set(dut.ap_rst_n, 0)
        for cycle in range(6):
            assert [ctx.get(port) for port in ready] == [cycle < 1] * 3
            await bench.tick(ctx)

    bench.run(story)
