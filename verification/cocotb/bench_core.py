"""The core at its AXI ports: a cocotb bench, run by `test_core.py`.

The memory and the host are cocotbext-axi's; what must come out is what the golden model computes from the same memory image.
"""

import os
from dataclasses import replace
from itertools import product

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from tailrace.cocotb import Bench, Scoreboard
from tailrace.golden.machine import Outcome
from tailrace.spec.commands import encode
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import FORMATS
from tailrace.spec.isa import Opcode
from tailrace.spec.registers import AP_IDLE, NO_WATCHDOG
from verification.programs import MEMORY_BYTES, Program, ProgramMaker, random_program
from verification.touched import touched

CONFIG = parse_config(os.environ["TAILRACE_CONFIG"])
SEED = int(os.environ["TAILRACE_SEED"])


class ProgramBench(Bench):
    """A bench that runs programs, and compares them with golden."""

    def __init__(self, dut: object) -> None:
        super().__init__(dut, CONFIG, MEMORY_BYTES, seed=SEED)
        self.rng = np.random.default_rng(SEED)
        self.scoreboard = Scoreboard(self)

    async def ring(self, program: Program) -> None:
        """Give the program to the core and ring the doorbell."""
        await self.registers.ring(program.queue, len(program.commands), program.arguments)

    def place(self, program: Program) -> None:
        """Put the program's image in both memories."""
        self.scoreboard.place(program.memory)

    async def check(self, program: Program) -> None:
        """Run a program here and on golden."""
        self.place(program)
        what = f"(seed {SEED})\n{program}"
        await self.scoreboard.check(program.queue, len(program.commands), program.arguments, what)

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
    bench = ProgramBench(dut)
    if probability:
        bench.back_pressure(probability)
    await bench.start()
    for _ in range(3):
        await bench.check(random_program(bench.rng, CONFIG, 8))


@cocotb.test()
async def corner_shapes(dut: object) -> None:
    """One row, one block, a row more or less than the lanes, the longest row: some of them in every format, one after the other."""
    bench = ProgramBench(dut)
    bench.back_pressure(0.1)
    await bench.start()
    lanes, slots = CONFIG.lanes, CONFIG.right_hand_sides
    for weight_format in FORMATS:
        maker = ProgramMaker(bench.rng, CONFIG)
        for slot in range(slots):
            maker.load(slot, CONFIG.vector_blocks)
        maker.fill(0, CONFIG.buffer_entries)
        place = 0
        shapes = list(product(sorted({1, max(lanes - 1, 1), lanes, lanes + 1, 3 * lanes + 1}), (1, 2, 5)))
        # A third of all shapes for each format: simulated ports are slow, and the engine's own bench has them all.
        for n in bench.rng.choice(len(shapes), len(shapes) // 3, replace=False):
            rows, blocks = shapes[n]
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
    bench = ProgramBench(dut)
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
    bench = ProgramBench(dut)
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
        assert await bench.registers.get("ERROR_CODE") == code
        assert await bench.registers.get("ERROR_COMMAND") == 4
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
    bench = ProgramBench(dut)
    bench.back_pressure(0.2)
    await bench.start()
    for _ in range(4):
        program = random_program(bench.rng, CONFIG, 4)
        bench.place(program)
        await bench.ring(program)
        await ClockCycles(dut.ap_clk, bench.random.randrange(1, 1500))
        await bench.reset()
        assert await bench.registers.get("AP_CTRL") == AP_IDLE
        await bench.check(program)


@cocotb.test()
async def memory_stops_answering(dut: object) -> None:
    """The watchdog ends a run whose memory has gone, and the next run once it has come back is right."""
    bench = ProgramBench(dut)
    await bench.start()
    slave = bench.slaves[-1]
    for channel in (slave.read_if.r_channel, slave.write_if.b_channel):
        maker = ProgramMaker(bench.rng, CONFIG)
        maker.load(0, 3)
        maker.fill(0, 64)
        maker.gemv(FORMATS[0], 40, 3, 1)
        maker.store(0, 64)
        program = maker.program()
        await bench.registers.set("WATCHDOG_CYCLES", 300)
        channel.pause = True
        for _ in range(2):
            # The second time nothing of the new run can begin.
            bench.place(program)
            await bench.ring(program)
            assert (await bench.finish()).code is ErrorCode.WATCHDOG
        channel.pause = False
        await bench.registers.set("WATCHDOG_CYCLES", NO_WATCHDOG)
        bench.place(program)
        await bench.ring(program)
        assert (await bench.finish()).code is ErrorCode.NONE
        await bench.check(program)
