import random

import pytest

from tailrace.hdl.control.set_arithmetic import SetArithmetic
from tailrace.spec.commands import encode
from tailrace.spec.isa import Opcode, SetMode
from verification.unit.hdl.simulate import simulate

EDGES = (0, 1, 2, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)


def expected(x: int, y: int, factor: int, addend: int, shift: int, mode: SetMode, limit: int) -> int:
    value = (x * factor + y + addend & 0xFFFF_FFFF) >> shift
    if mode is SetMode.MINIMUM:
        return min(value, limit)
    if mode is SetMode.WRAP and value >= limit:
        return 0
    return value


@pytest.mark.parametrize("mode", list(SetMode))
def test_it_is_the_contract_s(mode: SetMode, seed: int):
    """At edges and anywhere, with `y` a cycle after `x`, `latency` cycles later; the limit at, just above and just below."""
    dut, chance = SetArithmetic(), random.Random(seed)

    def word() -> int:
        return chance.choice(EDGES) if chance.random() < 0.4 else chance.getrandbits(32)

    async def testbench(ctx):
        ctx.set(dut.enable, 1)
        for _ in range(1000):
            x, y, factor, addend, shift = word(), word(), word(), word(), chance.choice((0, 1, 31, chance.randrange(32)))
            free = expected(x, y, factor, addend, shift, SetMode.PLAIN, 0)
            limit = chance.choice((word(), free, max(free - 1, 0), min(free + 1, 0xFFFF_FFFF)))
            fields = {"x": 3, "y": 4, "register": 5, "factor": factor, "addend": addend, "shift": shift, "limit": limit}
            ctx.set(dut.command, int.from_bytes(encode(Opcode.SET, mode=mode, **fields), "little"))
            ctx.set(dut.x, x)
            ctx.set(dut.y, chance.getrandbits(32))
            await ctx.tick()
            ctx.set(dut.y, y)
            await ctx.tick().repeat(dut.latency - 1)
            assert ctx.get(dut.o) == expected(x, y, factor, addend, shift, mode, limit), (x, y, fields, mode)

    simulate(dut, testbench)


def test_it_stands_still_unless_it_is_enabled():
    dut = SetArithmetic()

    async def testbench(ctx):
        fields = {"x": 3, "y": 4, "register": 5, "factor": 3, "addend": 4, "shift": 0, "limit": 0}
        ctx.set(dut.command, int.from_bytes(encode(Opcode.SET, mode=SetMode.PLAIN, **fields), "little"))
        ctx.set(dut.enable, 1)
        ctx.set(dut.x, 100)
        ctx.set(dut.y, 7)
        await ctx.tick().repeat(dut.latency)
        ctx.set(dut.enable, 0)
        ctx.set(dut.x, 5)
        ctx.set(dut.y, 6)
        for _ in range(20):
            assert ctx.get(dut.o) == 311
            await ctx.tick()

    simulate(dut, testbench)
