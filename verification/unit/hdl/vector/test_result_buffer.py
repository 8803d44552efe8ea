import random
from typing import Any

import pytest

from tailrace.hdl.vector.result_buffer import ResultBuffer

from ..simulate import simulate
from .bench import config


@pytest.mark.parametrize("entries", [64, 2048])
def test_against_a_model(entries: int) -> None:
    dut = ResultBuffer(config(result_entries=entries))
    rng = random.Random(entries)
    addresses = [0, 1, 2, entries // 2, entries - 1]
    model = dict.fromkeys(addresses, 0)

    async def testbench(ctx: Any) -> None:
        expected = 0
        for cycle in range(300):
            read, written, value, enable = rng.choice(addresses), rng.choice(addresses), rng.getrandbits(32), rng.random() < 0.7
            ctx.set(dut.read.address, read)
            ctx.set(dut.write.address, written)
            ctx.set(dut.write.data, value)
            ctx.set(dut.write.enable, enable)
            if not (enable and written == read):
                expected = model[read]
            if enable:
                model[written] = value
            await ctx.tick()
            assert ctx.get(dut.read.data) == expected, f"cycle {cycle}"

    simulate(dut, testbench)
