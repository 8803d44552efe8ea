"""The core at its AXI ports: a cocotb bench, run by `test_core.py`.

The memory and the host are cocotbext-axi's; what must come out is what the golden model computes from the same memory image.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import replace

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave
from cocotbext.axi.address_space import Region

from tailrace.golden.machine import Machine, Outcome
from tailrace.spec.commands import encode
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import FORMATS
from tailrace.spec.isa import Opcode
from tailrace.spec.registers import AP_DONE, AP_IDLE, AP_START, COUNTERS, NO_WATCHDOG, offset
from verification.programs import MEMORY_BYTES, Program, ProgramMaker, random_program
from verification.touched import touched

CONFIG = parse_config(os.environ["TAILRACE_CONFIG"])
SEED = int(os.environ["TAILRACE_SEED"])
PERIOD = 10
#: What golden, which has no clock and fetches nothing ahead of a loop, does not count.
CLOCKED = {
    name for name, _ in COUNTERS if name in ("CYCLES", "COMMAND_BEATS") or name.startswith("STALL_") or name.endswith("_BUSY")
}


class Memory(Region):
    """Device memory that refuses what it is told to refuse."""

    def __init__(self) -> None:
        super().__init__(1 << CONFIG.address_width)
        self.bytes = np.zeros(MEMORY_BYTES, dtype=np.uint8)
        self.refused_reads: set[int] = set()
        self.refused_writes: set[int] = set()

    def _range(self, address: int, length: int, refused: set[int]) -> slice:
        beat = address // CONFIG.bus_bytes * CONFIG.bus_bytes
        if address + length > MEMORY_BYTES or beat in refused:
            raise ValueError("refused")
        return slice(address, address + length)

    async def _read(self, address: int, length: int, **_: object) -> bytes:
        return self.bytes[self._range(address, length, self.refused_reads)].tobytes()

    async def _write(self, address: int, data: bytes, **_: object) -> None:
        self.bytes[self._range(address, len(data), self.refused_writes)] = np.frombuffer(data, dtype=np.uint8)


class Bench:
    """Clock, reset, host and memory around the core."""

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.random = random.Random(SEED)
        self.rng = np.random.default_rng(SEED)
        self.memory = Memory()
        self.slave = AxiSlave(
            AxiBus.from_prefix(dut, "m00_axi"), dut.ap_clk, dut.ap_rst_n, target=self.memory, reset_active_level=False
        )
        self.host = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axi_control"), dut.ap_clk, dut.ap_rst_n, reset_active_level=False
        )
        self.golden = Machine(CONFIG, self.memory.bytes.copy())

    def back_pressure(self, probability: float) -> None:
        """Stall every channel at random."""

        def pauses(source: random.Random) -> Iterator[bool]:
            while True:
                yield source.random() < probability

        read, write = self.slave.read_if, self.slave.write_if
        channels = [read.ar_channel, read.r_channel, write.aw_channel, write.w_channel, write.b_channel]
        host_read, host_write = self.host.read_if, self.host.write_if
        channels += [host_read.ar_channel, host_read.r_channel]
        channels += [host_write.aw_channel, host_write.w_channel, host_write.b_channel]
        for channel in channels:
            channel.set_pause_generator(pauses(random.Random(self.random.random())))

    async def start(self) -> None:
        """Start the clock and reset. Programs write the slots and the entries that they use."""
        cocotb.start_soon(Clock(self.dut.ap_clk, PERIOD, "ns").start())
        await self.reset()

    async def reset(self) -> None:
        """Reset the core."""
        self.dut.ap_rst_n.value = 0
        await ClockCycles(self.dut.ap_clk, 4)
        self.dut.ap_rst_n.value = 1
        await ClockCycles(self.dut.ap_clk, 4)

    async def set(self, name: str, value: int) -> None:
        await self.host.write_dword(offset(name), value)

    async def get(self, name: str) -> int:
        return await self.host.read_dword(offset(name))

    async def ring(self, program: Program) -> None:
        """Give the program to the core and ring the doorbell."""
        for i, value in enumerate(program.arguments):
            await self.set(f"ARGUMENT_{i}", value)
        await self.set("QUEUE_ADDRESS_LO", program.queue & 0xFFFF_FFFF)
        await self.set("QUEUE_ADDRESS_HI", program.queue >> 32)
        await self.set("QUEUE_LENGTH", len(program.commands))
        await self.set("GIE", 1)
        await self.set("IER", 1)
        await self.set("AP_CTRL", AP_START)

    async def finish(self) -> Outcome:
        """Wait for the interrupt and say how the run ended."""
        if not self.dut.interrupt.value:
            await with_timeout(RisingEdge(self.dut.interrupt), 400_000 * PERIOD, "ns")
        assert await self.get("AP_CTRL") & (AP_DONE | AP_IDLE | AP_START) == AP_DONE | AP_IDLE
        assert await self.get("AP_CTRL") & AP_DONE == 0
        await self.set("ISR", await self.get("ISR"))
        assert not self.dut.interrupt.value
        address = await self.get("ERROR_ADDRESS_LO") | await self.get("ERROR_ADDRESS_HI") << 32
        return Outcome(ErrorCode(await self.get("ERROR_CODE")), await self.get("ERROR_COMMAND"), address)

    async def counters(self) -> dict[str, int]:
        return {name: await self.get(f"{name}_LO") | await self.get(f"{name}_HI") << 32 for name, _ in COUNTERS}

    def place(self, program: Program) -> None:
        """Put the program's image in both memories."""
        self.memory.bytes[:] = program.memory
        self.golden.write(0, program.memory)

    async def check(self, program: Program) -> None:
        """Run a program here and on golden; every byte of memory must be the same, and every counter that golden has."""
        self.place(program)
        expected = self.golden.run(program.queue, len(program.commands), program.arguments)
        await self.ring(program)
        outcome = await self.finish()
        assert outcome == expected, f"{outcome} instead of {expected}, seed {SEED}\n{program}"
        wrong = np.flatnonzero(self.memory.bytes != self.golden.memory)
        assert not wrong.size, f"memory differs in {wrong.size} bytes from {wrong[0]:#x} on, seed {SEED}\n{program}"
        counted = await self.counters()
        stalls = sum(count for name, count in counted.items() if name.startswith("STALL_"))
        beats = sum(counted[name] for name in ("COMMAND_BEATS", "VECTOR_BEATS", "WEIGHT_BEATS"))
        assert counted["CYCLES"] == stalls + beats
        if expected.code is ErrorCode.NONE:
            for name in counted.keys() - CLOCKED:
                count = self.golden.counters[name]
                assert counted[name] == count, f"{name} is {counted[name]}, not {count}, seed {SEED}\n{program}"

    async def check_stopped(self, program: Program, expected: Outcome) -> None:
        """Run a program that fails on the bus."""
        self.place(program)
        await self.ring(program)
        outcome = await self.finish()
        assert outcome == expected, f"{outcome} instead of {expected}, seed {SEED}\n{program}"


@cocotb.test()
@cocotb.parametrize(probability=[0.0, 0.3, 0.7])
async def random_programs(dut: object, probability: float) -> None:
    """Random programs, with and without back-pressure on every channel."""
    bench = Bench(dut)
    if probability:
        bench.back_pressure(probability)
    await bench.start()
    for _ in range(3):
        await bench.check(random_program(bench.rng, CONFIG, 8))


@cocotb.test()
async def corner_shapes(dut: object) -> None:
    """One row, one block, a row more or less than the lanes, the longest row: in every format, one after the other."""
    bench = Bench(dut)
    bench.back_pressure(0.1)
    await bench.start()
    lanes, slots = CONFIG.lanes, CONFIG.right_hand_sides
    for weight_format in FORMATS:
        maker = ProgramMaker(bench.rng, CONFIG)
        for slot in range(slots):
            maker.load(slot, CONFIG.vector_blocks)
        maker.fill(0, CONFIG.buffer_entries)
        place = 0
        for rows in sorted({1, max(lanes - 1, 1), lanes, lanes + 1, 3 * lanes + 1}):
            for blocks in (1, 2, 5):
                maker.gemv(weight_format, rows, blocks, slots, offset=place)
                place += -(-rows // 4) * 4 * slots
        maker.gemv(weight_format, 1, CONFIG.vector_blocks, 1, offset=place)
        # Around the end of the buffer.
        maker.gemv(weight_format, 9, 1, slots, offset=CONFIG.buffer_entries - 4)
        maker.store(0, CONFIG.buffer_entries)
        await bench.check(maker.program())


@cocotb.test()
@cocotb.parametrize(kind=["reads", "writes"])
async def bus_errors(dut: object, kind: str) -> None:
    """An error response on any beat stops the run and names its command and address; the next run is right."""
    bench = Bench(dut)
    bench.back_pressure(0.2)
    await bench.start()
    code = ErrorCode.READ_ERROR if kind == "reads" else ErrorCode.WRITE_ERROR
    for _ in range(4):
        program = random_program(bench.rng, CONFIG, 4)
        uses = touched(program, CONFIG)
        beats = uses.reads if kind == "reads" else uses.writes
        address = bench.random.choice(sorted(beats))
        refused = bench.memory.refused_reads if kind == "reads" else bench.memory.refused_writes
        refused.add(address)
        await bench.check_stopped(program, Outcome(code, beats[address], address))
        refused.clear()
        await bench.check(program)


@cocotb.test()
async def bad_commands(dut: object) -> None:
    """Commands that are malformed or out of range stop the run after what came before them; the next run is right."""
    bench = Bench(dut)
    bench.back_pressure(0.2)
    await bench.start()
    bad = [
        (bytes(64), ErrorCode.BAD_OPCODE),
        (encode(Opcode.GEMV, rows=1, blocks=1, slots=1, format=99), ErrorCode.BAD_FIELD),
        (encode(Opcode.STORE, count=CONFIG.buffer_entries + 1), ErrorCode.OUT_OF_RANGE),
    ]
    for command, code in bad:
        maker = ProgramMaker(bench.rng, CONFIG)
        maker.load(0, 2)
        maker.fill(0, 64)
        maker.gemv(FORMATS[2], 20, 2, 1)
        maker.store(0, 64)
        maker.commands.append(command)
        maker.store(0, 64)
        await bench.check(maker.program())
        assert await bench.get("ERROR_CODE") == code
        assert await bench.get("ERROR_COMMAND") == 4
    program = random_program(bench.rng, CONFIG, 3)
    for queue, length, code in (
        (32, 1, ErrorCode.MISALIGNED),
        (1 << CONFIG.address_width, 1, ErrorCode.OUT_OF_RANGE),
        (0, 1 << 16, ErrorCode.OUT_OF_RANGE),
        (0, 0, ErrorCode.NONE),
        (MEMORY_BYTES, 1, ErrorCode.READ_ERROR),
    ):
        address = MEMORY_BYTES if code is ErrorCode.READ_ERROR else 0
        await bench.check_stopped(replace(program, queue=queue, commands=[bytes(64)] * length), Outcome(code, 0, address))
    await bench.check(program)


@cocotb.test()
async def reset_in_the_middle(dut: object) -> None:
    """A reset at any time leaves a core that works."""
    bench = Bench(dut)
    bench.back_pressure(0.2)
    await bench.start()
    for _ in range(4):
        program = random_program(bench.rng, CONFIG, 4)
        bench.place(program)
        await bench.ring(program)
        await ClockCycles(dut.ap_clk, bench.random.randrange(1, 1500))
        await bench.reset()
        assert await bench.get("AP_CTRL") == AP_IDLE
        await bench.check(program)


@cocotb.test()
async def memory_stops_answering(dut: object) -> None:
    """The watchdog ends a run whose memory has gone, and the next run once it has come back is right."""
    bench = Bench(dut)
    await bench.start()
    for channel in (bench.slave.read_if.r_channel, bench.slave.write_if.b_channel):
        maker = ProgramMaker(bench.rng, CONFIG)
        maker.load(0, 3)
        maker.fill(0, 64)
        maker.gemv(FORMATS[0], 40, 3, 1)
        maker.store(0, 64)
        program = maker.program()
        await bench.set("WATCHDOG_CYCLES", 300)
        channel.pause = True
        for _ in range(2):
            # The second time nothing of the new run can begin.
            bench.place(program)
            await bench.ring(program)
            assert (await bench.finish()).code is ErrorCode.WATCHDOG
        channel.pause = False
        await bench.set("WATCHDOG_CYCLES", NO_WATCHDOG)
        bench.place(program)
        await bench.ring(program)
        assert (await bench.finish()).code is ErrorCode.NONE
        await bench.check(program)
