import pytest

from tailrace.hdl.merge import StreamMerge

from .control.bench import Clock, Sink, Source
from .simulate import simulate


class Bench:
    """A merge, two sources and a sink; what is offered and taken in each cycle is recorded."""

    def __init__(self, first: list[int], second: list[int], stalls: tuple[float, float, float], seed: int = 0) -> None:
        self.dut = StreamMerge(16)
        self.clock = Clock()
        self.first = Source(self.dut.first, first, self.clock, seed + 1, stalls[0])
        self.i = Source(self.dut.i, second, self.clock, seed + 2, stalls[1])
        self.o = Sink(self.dut.o, self.clock, seed + 3, stalls[2])
        self.cycles: list[tuple[int, ...]] = []

    async def watch(self, ctx):
        dut = self.dut
        while True:
            _, _, *facts = await ctx.tick().sample(
                dut.first.valid, dut.first.ready, dut.i.valid, dut.i.ready, dut.o.valid, dut.o.ready
            )
            self.cycles.append(tuple(facts))

    def run(self):
        background = (self.clock.run, self.o.run, self.watch)
        simulate(self.dut, self.first.run, self.i.run, background=background)


FIRST, SECOND = list(range(0x8000, 0x8000 + 100)), list(range(100))


@pytest.mark.parametrize("output", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("second", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("first", [0.3, 0.9])
def test_contract(first: float, second: float, output: float, seed: int):
    """Nothing is lost, doubled or replaced (the sink checks that), each stream keeps its order, and `first` goes first."""
    bench = Bench(FIRST, SECOND, (first, second, output), seed)
    bench.run()
    assert [p for p in bench.o.payloads if p & 0x8000] == FIRST
    assert [p for p in bench.o.payloads if not p & 0x8000] == SECOND
    # Whose offer is at the output: it changes only when it is taken, and then to `first` if that waits.
    owner = None
    both = 0
    for first_valid, first_ready, i_valid, i_ready, o_valid, o_ready in bench.cycles:
        assert o_valid == (first_valid or i_valid)
        if owner is None and o_valid:
            owner = "first" if first_valid else "i"
        both += first_valid and i_valid
        assert first_ready == (owner == "first" and o_ready)
        assert not i_valid or i_ready == (owner == "i" and o_ready)
        if o_ready:
            owner = None
    assert both > 2


def test_every_cycle():
    """Combinational, one transfer a cycle: `first` in each of its cycles, `i` in those between."""
    bench = Bench(FIRST, [], (0.0, 0.0, 0.0))
    bench.run()
    assert bench.o.taken == list(range(len(FIRST)))
    bench = Bench(FIRST[:20], SECOND[:20], (0.0, 0.0, 0.0))
    bench.run()
    assert bench.o.taken == list(range(40))
    assert bench.o.payloads == FIRST[:20] + SECOND[:20]


def test_an_offer_stays():
    """An offer of `i` that is not taken is not replaced by `first`."""
    bench = Bench([], [], (0.0, 0.0, 0.0))
    dut = bench.dut
    found = []

    async def testbench(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.payload, 7)
        await ctx.tick()
        ctx.set(dut.first.valid, 1)
        ctx.set(dut.first.payload, 9)
        await ctx.tick()
        found.append((ctx.get(dut.o.payload), ctx.get(dut.first.ready)))
        ctx.set(dut.o.ready, 1)
        found.append((ctx.get(dut.o.payload), ctx.get(dut.first.ready), ctx.get(dut.i.ready)))
        await ctx.tick()
        ctx.set(dut.i.payload, 8)
        found.append((ctx.get(dut.o.payload), ctx.get(dut.first.ready), ctx.get(dut.i.ready)))

    simulate(dut, testbench)
    assert found == [(7, 0), (7, 0, 1), (9, 1, 0)]
