import random
import re

import pytest
from amaranth.hdl import Module

from tailrace.hdl.link.uart_transmitter import UartTransmitter

from ..simulate import simulate
from ..streams import Cycles, send
from .line import Pins


@pytest.mark.parametrize("stalls", [None, 1])
@pytest.mark.parametrize("clocks_per_bit", [4, 5, 9])
def test_bytes(clocks_per_bit: int, stalls: int | None, seed: int):
    dut = UartTransmitter(clocks_per_bit)
    data = bytes([0, 255, 0x55]) + random.Random(seed).randbytes(6)
    pins, cycles = Pins(None, dut.tx, clocks_per_bit), Cycles()

    async def testbench(ctx):
        assert ctx.get(dut.tx) == 1
        await send(ctx, dut.i, data, stalls)
        taken = cycles.now
        await ctx.tick().repeat(10 * clocks_per_bit)
        if stalls is None:
            # One byte after the other without a gap: the first was taken in the first cycle.
            assert taken == 1 + (len(data) - 1) * 10 * clocks_per_bit

    m = Module()
    m.submodules.dut = dut
    simulate(m, testbench, background=(cycles.count, pins.listen))
    assert bytes(pins.received) == data


@pytest.mark.parametrize("clocks_per_bit", [3, None])
def test_refuses(clocks_per_bit):
    with pytest.raises(
        ValueError, match=re.escape(f"clocks_per_bit must be a whole number of at least 4, not {clocks_per_bit!r}") + "$"
    ):
        UartTransmitter(clocks_per_bit)
