from typing import Any

import pytest
from amaranth.hdl import Value

from tailrace.hdl.slots.write_select import VectorWriteSelect

from ..simulate import simulate
from .bench import config

MEMBERS = {
    "beat": ("slot", "block", "part", "data"),
    "commit": ("slot", "block", "exponent", "totals"),
    "base": ("slot", "set", "base"),
}


@pytest.mark.parametrize("group", MEMBERS)
def test_passes_each_writer_on(group: str) -> None:
    dut = VectorWriteSelect(config(128, 4))

    async def testbench(ctx: Any) -> None:
        for writer, other, offset in ((dut.loader, dut.quantiser, 1), (dut.quantiser, dut.loader, 2)):
            for name in MEMBERS:
                ctx.set(getattr(writer, name).enable, name == group)
                ctx.set(getattr(other, name).enable, 0)
            for n, member in enumerate(MEMBERS[group]):
                ctx.set(Value.cast(getattr(getattr(writer, group), member)), offset + n % 2)
                ctx.set(Value.cast(getattr(getattr(other, group), member)), 0)
            await ctx.delay(1e-7)
            for name in MEMBERS:
                assert ctx.get(getattr(dut.write, name).enable) == (name == group)
            for n, member in enumerate(MEMBERS[group]):
                assert ctx.get(Value.cast(getattr(getattr(dut.write, group), member))) == offset + n % 2, member

    simulate(dut, testbench)
