import pytest

from tailrace.hdl.stream_register import StreamRegister

from .control.bench import Clock, Sink, Source
from .simulate import simulate


@pytest.mark.parametrize("output", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("offers", [0.0, 0.4, 0.9])
def test_order(offers: float, output: float, seed: int) -> None:
    """Everything comes out once and in order, and stays on offer until it is taken (the sink checks that)."""
    dut, clock = StreamRegister(16), Clock()
    source, sink = Source(dut.i, list(range(200)), clock, seed, offers), Sink(dut.o, clock, seed + 1, output)

    async def testbench(ctx):
        await source.run(ctx)
        while len(sink.payloads) < 200:
            await ctx.tick()

    simulate(dut, testbench, background=(clock.run, sink.run))
    assert sink.payloads == list(range(200))


def test_latency_throughput_and_capacity() -> None:
    """A cycle later, every cycle; two find room; neither side depends on the other in the same cycle."""
    dut = StreamRegister(8)

    async def testbench(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        for n in range(6):
            ctx.set(dut.i.payload, n)
            assert ctx.get(dut.i.ready)
            assert ctx.get(dut.o.valid) == (n > 0)
            assert n == 0 or ctx.get(dut.o.payload) == n - 1
            await ctx.tick()
        ctx.set(dut.o.ready, 0)
        ctx.set(dut.i.payload, 6)
        assert ctx.get(dut.i.ready)
        await ctx.tick()
        ctx.set(dut.i.payload, 7)
        assert not ctx.get(dut.i.ready)
        ctx.set(dut.o.ready, 1)
        assert not ctx.get(dut.i.ready)
        for n in (5, 6, 7):
            assert (ctx.get(dut.o.valid), ctx.get(dut.o.payload)) == (1, n)
            await ctx.tick()

    simulate(dut, testbench)
