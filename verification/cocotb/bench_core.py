"""The core at its AXI ports: a cocotb bench, run by `test_core.py`.

The memory and the host are cocotbext-axi's; what must come out is what the golden model computes from the same memory image.
"""

import os
import random
from collections.abc import Iterator

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave
from cocotbext.axi.address_space import Region

from tailrace.golden.machine import Machine, Outcome
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import FORMATS
from tailrace.spec.isa import Opcode, encode
from tailrace.spec.registers import AP_DONE, AP_IDLE, AP_START, COUNTERS, offset
from verification.programs import MEMORY_BYTES, Program, ProgramMaker, random_program

CONFIG = parse_config(os.environ["TAILRACE_CONFIG"])
SEED = int(os.environ["TAILRACE_SEED"])
PERIOD = 10


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
        """Start the clock, reset, and write every slot and result: what they hold after a reset is undefined."""
        cocotb.start_soon(Clock(self.dut.ap_clk, PERIOD, "ns").start())
        await self.reset()
        maker = ProgramMaker(self.rng, CONFIG)
        for slot in range(CONFIG.right_hand_sides):
            maker.load(slot, CONFIG.vector_blocks)
        maker.gemv(FORMATS[0], CONFIG.result_entries // CONFIG.right_hand_sides, 1, CONFIG.right_hand_sides, keep_at=0)
        await self.check(maker.program())

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

    async def ring(self, queue: int, length: int) -> None:
        """Give the queue to the core and ring the doorbell."""
        await self.set("QUEUE_ADDRESS_LO", queue & 0xFFFF_FFFF)
        await self.set("QUEUE_ADDRESS_HI", queue >> 32)
        await self.set("QUEUE_LENGTH", length)
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
        expected = self.golden.run(program.queue, len(program.commands))
        await self.ring(program.queue, len(program.commands))
        outcome = await self.finish()
        assert outcome == expected, f"{outcome} instead of {expected}, seed {SEED}\n{program}"
        wrong = np.flatnonzero(self.memory.bytes != self.golden.memory)
        assert not wrong.size, f"memory differs in {wrong.size} bytes from {wrong[0]:#x} on, seed {SEED}\n{program}"
        counted = await self.counters()
        stalls = sum(count for name, count in counted.items() if name.startswith("STALL_"))
        beats = sum(counted[name] for name in ("COMMAND_BEATS", "VECTOR_BEATS", "WEIGHT_BEATS"))
        assert counted["CYCLES"] == stalls + beats
        if expected.code is ErrorCode.NONE:
            for name, count in self.golden.counters.items():
                if name != "CYCLES" and not name.startswith("STALL_"):
                    assert counted[name] == count, f"{name} is {counted[name]}, not {count}, seed {SEED}\n{program}"


@cocotb.test()
@cocotb.parametrize(probability=[0.0, 0.3, 0.7])
async def random_programs(dut: object, probability: float) -> None:
    """Random shapes and formats, with and without back-pressure on every channel."""
    bench = Bench(dut)
    if probability:
        bench.back_pressure(probability)
    await bench.start()
    for _ in range(3):
        await bench.check(random_program(bench.rng, CONFIG, 8, stream_blocks=150))


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
        for rows in {1, max(lanes - 1, 1), lanes, lanes + 1, 3 * lanes + 1}:
            for blocks in (1, 2, 5):
                maker.gemv(weight_format, rows, blocks, slots)
        maker.gemv(weight_format, 1, CONFIG.vector_blocks, 1)
        maker.gemv(weight_format, 1, 1, slots, keep_at=CONFIG.result_entries - slots)
        maker.store(CONFIG.result_entries - slots, slots)
        await bench.check(maker.program())


@cocotb.test()
async def read_errors(dut: object) -> None:
    """An error response on any read beat stops the run and names its address; the next run is right."""
    bench = Bench(dut)
    bench.back_pressure(0.2)
    await bench.start()
    for _ in range(8):
        maker = ProgramMaker(bench.rng, CONFIG)
        maker.load(0, 4)
        maker.gemv(FORMATS[int(bench.rng.integers(len(FORMATS)))], 6 * CONFIG.lanes, 4, 1)
        maker.fence()
        maker.gemv(FORMATS[0], 2, 1, 1)
        program = maker.program()
        bench.place(program)
        reads = _reads(program)
        address = bench.random.choice(sorted(reads))
        bench.memory.refused_reads = {address}
        await bench.ring(program.queue, len(program.commands))
        outcome = await bench.finish()
        assert outcome == Outcome(ErrorCode.READ_ERROR, reads[address], address), f"{outcome}, seed {SEED}\n{program}"
        bench.memory.refused_reads = set()
        await bench.check(program)


def _reads(program: Program) -> dict[int, int]:
    """Address of every beat that a program of ProgramMaker reads, and the index of its command."""
    from tailrace.spec.formats import BY_NUMBER
    from tailrace.spec.isa import COMMAND_BYTES, decode
    from tailrace.spec.vector import vector_bytes

    ranges = [(program.queue + i * COMMAND_BYTES, COMMAND_BYTES, i) for i in range(len(program.commands))]
    for i, command in enumerate(program.commands):
        decoded = decode(command)
        assert decoded
        opcode, fields = decoded
        if opcode is Opcode.LOAD_VECTOR:
            ranges.append((fields["source"], vector_bytes(fields["blocks"]), i))
        elif opcode is Opcode.GEMV:
            size = BY_NUMBER[fields["format"]].matrix_bytes(fields["rows"], fields["blocks"], CONFIG.lanes)
            ranges.append((fields["source"], size, i))
    return {a: i for start, size, i in ranges for a in range(start, start + size, CONFIG.bus_bytes)}


@cocotb.test()
async def write_errors(dut: object) -> None:
    """An error response to a write stops the run; the next run is right."""
    bench = Bench(dut)
    bench.back_pressure(0.2)
    await bench.start()
    for _ in range(4):
        maker = ProgramMaker(bench.rng, CONFIG)
        maker.load(0, 2)
        maker.gemv(FORMATS[1], 100, 2, 1)
        destination = int.from_bytes(maker.commands[-1][16:24], "little")
        program = maker.program()
        bench.place(program)
        beats = range(destination, destination + 400, CONFIG.bus_bytes)
        bench.memory.refused_writes = {bench.random.choice(beats)}
        await bench.ring(program.queue, len(program.commands))
        outcome = await bench.finish()
        assert (outcome.code, outcome.command) == (ErrorCode.WRITE_ERROR, 1), f"{outcome}, seed {SEED}"
        assert outcome.address <= min(bench.memory.refused_writes) < outcome.address + 16 * CONFIG.bus_bytes
        bench.memory.refused_writes = set()
        await bench.check(program)


@cocotb.test()
async def bad_commands(dut: object) -> None:
    """Commands that are malformed or out of range stop the run after what came before them; the next run is right."""
    bench = Bench(dut)
    bench.back_pressure(0.2)
    await bench.start()
    entries = CONFIG.result_entries
    good = {"format": 0, "rows": 1, "blocks": 1, "slots": 1}
    bad = [
        (bytes(64), ErrorCode.BAD_OPCODE),
        (b"\xff" * 64, ErrorCode.BAD_OPCODE),
        (encode(Opcode.FENCE)[:63] + b"\x01", ErrorCode.BAD_FIELD),
        (encode(Opcode.GEMV, **good | {"format": 99}), ErrorCode.BAD_FIELD),
        (encode(Opcode.GEMV, **good | {"slots": 0}), ErrorCode.BAD_FIELD),
        (encode(Opcode.LOAD_VECTOR, blocks=1, slot=CONFIG.right_hand_sides), ErrorCode.BAD_FIELD),
        (encode(Opcode.GEMV, **good | {"rows": 0}), ErrorCode.OUT_OF_RANGE),
        (encode(Opcode.GEMV, **good | {"blocks": CONFIG.vector_blocks + 1}), ErrorCode.OUT_OF_RANGE),
        (encode(Opcode.GEMV, **good | {"keep": 1, "offset": entries}), ErrorCode.OUT_OF_RANGE),
        (encode(Opcode.QUANTISE, blocks=1, stride=5), ErrorCode.OUT_OF_RANGE),
        (encode(Opcode.STORE, offset=1, rows=entries), ErrorCode.OUT_OF_RANGE),
        (encode(Opcode.LOAD_VECTOR, blocks=1, source=1 << CONFIG.address_width), ErrorCode.OUT_OF_RANGE),
        (encode(Opcode.LOAD_VECTOR, blocks=1, source=32), ErrorCode.MISALIGNED),
        (encode(Opcode.GEMV, **good | {"destination": 4}), ErrorCode.MISALIGNED),
    ]
    for command, code in bad:
        maker = ProgramMaker(bench.rng, CONFIG)
        maker.load(0, 2)
        maker.gemv(FORMATS[2], 20, 2, 1)
        maker.commands.append(command)
        maker.gemv(FORMATS[1], 20, 2, 1)
        program = maker.program()
        await bench.check(program)
        assert await bench.get("ERROR_CODE") == code
    for queue, length, code in (
        (32, 1, ErrorCode.MISALIGNED),
        (1 << CONFIG.address_width, 1, ErrorCode.OUT_OF_RANGE),
        (0, 1 << 16, ErrorCode.OUT_OF_RANGE),
        (0, 0, ErrorCode.NONE),
        (MEMORY_BYTES, 1, ErrorCode.READ_ERROR),
    ):
        await bench.ring(queue, length)
        outcome = await bench.finish()
        address = MEMORY_BYTES if code is ErrorCode.READ_ERROR else 0
        assert outcome == Outcome(code, 0, address)
        assert outcome == bench.golden.run(queue, length)
    await bench.check(random_program(bench.rng, CONFIG, 3, stream_blocks=50))


@cocotb.test()
async def reset_in_the_middle(dut: object) -> None:
    """A reset at any time leaves a core that works."""
    bench = Bench(dut)
    bench.back_pressure(0.2)
    await bench.start()
    for _ in range(6):
        program = random_program(bench.rng, CONFIG, 5, stream_blocks=60)
        bench.place(program)
        await bench.ring(program.queue, len(program.commands))
        await ClockCycles(dut.ap_clk, bench.random.randrange(1, 1500))
        await bench.reset()
        assert await bench.get("AP_CTRL") == AP_IDLE
        # This program uses only what it wrote itself.
        maker = ProgramMaker(bench.rng, CONFIG)
        maker.load(0, 3)
        maker.gemv(FORMATS[3], 40, 3, 1, keep_at=0)
        maker.store(0, 40)
        maker.gemv(FORMATS[0], 7, 3, 1)
        await bench.check(maker.program())


@cocotb.test()
async def memory_stops_answering(dut: object) -> None:
    """The watchdog ends a run whose memory has gone, and the next run once it has come back is right."""
    bench = Bench(dut)
    await bench.start()
    await bench.set("WATCHDOG_CYCLES", 300)
    for channel in (bench.slave.read_if.r_channel, bench.slave.write_if.b_channel):
        maker = ProgramMaker(bench.rng, CONFIG)
        maker.load(0, 3)
        maker.gemv(FORMATS[0], 40, 3, 1)
        program = maker.program()
        bench.place(program)
        channel.pause = True
        await bench.ring(program.queue, len(program.commands))
        outcome = await bench.finish()
        assert outcome.code is ErrorCode.WATCHDOG
        # Still gone: the next run ends in the same way, and nothing hangs.
        await bench.ring(program.queue, len(program.commands))
        assert (await bench.finish()).code is ErrorCode.WATCHDOG
        channel.pause = False
        await bench.check(program)
