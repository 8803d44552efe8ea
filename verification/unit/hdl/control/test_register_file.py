import random

from tailrace.hdl.control.register_file import RegisterFile
from tailrace.spec.isa import ARGUMENTS, FIRST_ARGUMENT, REGISTERS

from ..simulate import simulate


def test_registers(seed: int):
    """Every run begins with the arguments and zeros; then a register is what was written to it last, and r0 is 0."""
    chance = random.Random(seed)
    dut = RegisterFile()

    async def testbench(ctx):
        for _ in range(3):
            arguments = [chance.getrandbits(32) for _ in range(ARGUMENTS)]
            expected = [0] * REGISTERS
            expected[FIRST_ARGUMENT : FIRST_ARGUMENT + ARGUMENTS] = arguments
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            cycles = 0
            while not ctx.get(dut.ready):
                cycles += 1
                # Only now is one looked at.
                ctx.set(dut.argument, arguments[ctx.get(dut.argument_place)])
                await ctx.tick()
            ctx.set(dut.argument, chance.getrandbits(32))
            assert cycles == REGISTERS
            for _ in range(200):
                place, value = chance.randrange(REGISTERS), chance.getrandbits(32)
                write = chance.random() < 0.5
                ctx.set(dut.write, write)
                ctx.set(dut.write_address, place)
                ctx.set(dut.write_data, value)
                ctx.set(dut.address, shown := chance.randrange(REGISTERS))
                await ctx.delay(1e-9)
                assert ctx.get(dut.data) == expected[shown]
                await ctx.tick()
                if write and place:
                    expected[place] = value
            ctx.set(dut.write, 0)

    simulate(dut, testbench)
