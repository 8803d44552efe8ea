import random

import pytest
from amaranth.hdl import Module

from tailrace.hdl.link.uart_receiver import UartReceiver

from ..simulate import simulate
from .line import CYCLE, transmit


class Bench:
    def __init__(self, clocks_per_bit: int) -> None:
        self.dut = UartReceiver(clocks_per_bit)
        self.received: list[int | None] = []

    async def listen(self, ctx):
        o = self.dut.o
        while True:
            await ctx.posedge(o.valid)
            await ctx.delay(0)
            payload = ctx.get(o.payload)
            self.received.append(None if payload.damaged else payload.data)

    def run(self, testbench):
        m = Module()
        m.submodules.dut = self.dut
        simulate(m, testbench, background=(self.listen,))


@pytest.mark.parametrize("stops", [0, 1])
@pytest.mark.parametrize(
    ("clocks_per_bit", "off"), [(4, 0.05), (4, -0.024), (5, 0), (8, 0.05), (8, -0.037), (33, 0.05), (33, -0.046)]
)
def test_bytes(clocks_per_bit: int, off: float, stops: int, seed: int):
    """Without a gap and with more stop bits, and from a sender whose clock is slow or fast."""
    bench, chance = Bench(clocks_per_bit), random.Random(seed)
    data = bytes([0, 255, 0x55, 0xAA]) + chance.randbytes(8)

    async def testbench(ctx):
        await ctx.delay((3 + chance.random()) * CYCLE)
        for byte in data:
            await transmit(ctx, bench.dut.rx, clocks_per_bit * (1 + off), bytes([byte]))
            await ctx.delay(stops * clocks_per_bit * CYCLE)
        await ctx.tick().repeat(clocks_per_bit)

    bench.run(testbench)
    assert bytes(bench.received) == data


def test_no_stop_bit():
    """Said once, however long the line stays low, and forgotten when it has been high."""
    bench = Bench(6)

    async def testbench(ctx):
        await transmit(ctx, bench.dut.rx, 6, b"a", stop=0)
        ctx.set(bench.dut.rx, 0)
        await ctx.delay(300 * CYCLE)
        ctx.set(bench.dut.rx, 1)
        await ctx.delay(6 * CYCLE)
        await transmit(ctx, bench.dut.rx, 6, b"b")

    bench.run(testbench)
    assert bench.received == [None, ord("b")]


@pytest.mark.parametrize("cycles", [1, 2, 3])
def test_a_spike_is_no_start_bit(cycles: int):
    bench = Bench(8)

    async def testbench(ctx):
        ctx.set(bench.dut.rx, 0)
        await ctx.delay(cycles * CYCLE)
        ctx.set(bench.dut.rx, 1)
        await ctx.delay(100 * CYCLE)
        await transmit(ctx, bench.dut.rx, 8, b"c")

    bench.run(testbench)
    assert bench.received == [ord("c")]


def test_latency():
    """Two cycles and half a bit after the stop bit began."""
    bench = Bench(8)

    async def testbench(ctx):
        await ctx.tick()
        await transmit(ctx, bench.dut.rx, 8, b"d")
        # The stop bit is over: 8 cycles, of which the byte came in the seventh.
        assert bench.received == [ord("d")]

    async def watch(ctx):
        await ctx.tick().repeat(1 + 9 * 8 + 2 + 4)
        assert ctx.get(bench.dut.o.valid)

    m = Module()
    m.submodules.dut = bench.dut
    simulate(m, testbench, watch, background=(bench.listen,))
