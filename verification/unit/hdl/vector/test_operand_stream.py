"""Words of a streamed operand, and the padding between its parts."""

import random
from typing import Any

import pytest

from tailrace.hdl.vector.operand_stream import OperandStream
from tailrace.spec.config import Config
from tailrace.spec.isa import STREAM_UNIT

from ..simulate import simulate
from ..widths import WIDTHS


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize(("bus_width", "vector_width"), WIDTHS)
def test_words(bus_width: int, vector_width: int, stalls: bool) -> None:
    rng = random.Random(bus_width)
    config = Config("test", bus_width, vector_width=vector_width)
    elements, beat_floats = config.word_elements, bus_width // 32
    counts = [1, 16, 15, 17, 4, 33, 32, *(rng.randint(1, 40) for _ in range(10))]
    floats: list[int] = []
    expected: list[tuple[list[int], bool]] = []
    for count in counts:
        part = [rng.getrandbits(32) for _ in range(-(-count // STREAM_UNIT) * STREAM_UNIT)]
        floats += part
        words = -(-count // elements)
        expected += [(part[n * elements :][:elements], n == words - 1) for n in range(words)]
    beats = [floats[n : n + beat_floats] for n in range(0, len(floats), beat_floats)]
    unit = OperandStream(config)
    cycles = 0

    async def send(ctx: Any) -> None:
        for beat in beats:
            while stalls and rng.random() < 0.5:
                await ctx.tick()
            ctx.set(unit.i.payload, sum(value << 32 * n for n, value in enumerate(beat)))
            ctx.set(unit.i.valid, 1)
            await ctx.tick().until(unit.i.ready)
            ctx.set(unit.i.valid, 0)

    async def receive(ctx: Any) -> None:
        nonlocal cycles
        ctx.set(unit.o.ready, 0)
        for values, last in expected:
            while stalls and rng.random() < 0.5:
                await ctx.tick()
            ctx.set(unit.o.ready, 1)
            ctx.set(unit.last, last)
            taken = False
            while not taken:
                _, _, taken, payload = await ctx.tick().sample(unit.o.valid, unit.o.payload)
                cycles += 1
            ctx.set(unit.o.ready, 0)
            assert [payload[n] for n in range(elements)] == values
        ctx.set(unit.last, 0)
        while not ctx.get(unit.idle):
            await ctx.tick()

    simulate(unit, send, receive)
    if not stalls:
        # What is thrown away after each part but the last one: beats of a unit that no word was taken from.
        unit_beats = STREAM_UNIT // beat_floats
        used = [-(-count // beat_floats) for count in counts[:-1]]
        lost = sum(-beats_used % unit_beats for beats_used in used)
        assert cycles == len(expected) + lost
