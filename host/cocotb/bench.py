"""Clock, reset, host and memory around a core."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave

from tailrace.golden.machine import Outcome
from tailrace.spec.config import Config, memory_port_names
from tailrace.spec.registers import AP_DONE, AP_IDLE, AP_START

from .memory import DeviceMemory
from .registers import Registers

#: Nanoseconds of a cycle.
_PERIOD = 10
#: Cycles after which a run is given up.
_PATIENCE = 400_000
_RESET_CYCLES = 4


class Bench:
    """A core at its ports: the top level of an export, or of your own around it.

    Parameters
    ----------
    dut : cocotb handle
        With the ports ``ap_clk``, ``ap_rst_n``, ``interrupt``, ``s_axi_control_*``, ``m00_axi_*``, and ``m01_axi_*`` and so on
        if the core has several memory ports.
    config : Config
        What the core is built with.
    memory_size : int
        Bytes of memory behind all memory ports together.
    seed : int
        Of the stalls.
    patience : int
        Cycles after which a run is given up.

    Attributes
    ----------
    memory : DeviceMemory
    registers : Registers
    slaves : list of cocotbext.axi.AxiSlave
        What the memory is behind: one at each memory port.
    host : cocotbext.axi.AxiLiteMaster
    random : random.Random
    """

    def __init__(self, dut: Any, config: Config, memory_size: int, *, seed: int = 1, patience: int = _PATIENCE) -> None:
        self.dut, self.config, self.random, self._patience = dut, config, random.Random(seed), patience
        self.memory = DeviceMemory(config, memory_size)
        clock, reset = dut.ap_clk, dut.ap_rst_n
        self.slaves = [
            AxiSlave(AxiBus.from_prefix(dut, name), clock, reset, target=port, reset_active_level=False)
            for name, port in zip(memory_port_names(config), self.memory.ports, strict=True)
        ]
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi_control"), clock, reset, reset_active_level=False)
        self.registers = Registers(self.host)

    def back_pressure(self, probability: float) -> None:
        """Stall every channel of every port at random, in so many of the cycles."""

        def pauses(source: random.Random) -> Iterator[bool]:
            while True:
                yield source.random() < probability

        for port in (*self.slaves, self.host):
            reads, writes = port.read_if, port.write_if
            channels = [reads.ar_channel, reads.r_channel, writes.aw_channel, writes.w_channel, writes.b_channel]
            for channel in channels:
                channel.set_pause_generator(pauses(random.Random(self.random.random())))

    async def start(self) -> None:
        """Start the clock, and reset."""
        cocotb.start_soon(Clock(self.dut.ap_clk, _PERIOD, "ns").start())
        await self.reset()

    async def reset(self) -> None:
        """Reset the core."""
        self.dut.ap_rst_n.value = 0
        await ClockCycles(self.dut.ap_clk, _RESET_CYCLES)
        self.dut.ap_rst_n.value = 1
        await ClockCycles(self.dut.ap_clk, _RESET_CYCLES)

    async def interrupt(self) -> None:
        """Wait for the interrupt.

        Raises
        ------
        cocotb.triggers.SimTimeoutError
            If it does not come within `patience` cycles.
        """
        if not self.dut.interrupt.value:
            await with_timeout(RisingEdge(self.dut.interrupt), self._patience * _PERIOD, "ns")

    async def finish(self) -> Outcome:
        """Wait for the end of a run, check that the registers tell it as they should, and say how it ended."""
        await self.interrupt()
        assert await self.registers.get("AP_CTRL") & (AP_DONE | AP_IDLE | AP_START) == AP_DONE | AP_IDLE
        assert await self.registers.get("AP_CTRL") & AP_DONE == 0, "done is cleared by reading"
        await self.registers.acknowledge()
        assert not self.dut.interrupt.value, "the interrupt is taken back"
        return await self.registers.outcome()

    async def run(self, queue: int, length: int, arguments: Sequence[int] = ()) -> Outcome:
        """Run commands, and say how that ended; see `Registers.ring`."""
        await self.registers.ring(queue, length, arguments)
        return await self.finish()
