import random

import pytest

from tailrace.hdl.link.slip_encoder import SlipEncoder
from tailrace.spec.link import END, ESCAPE, encode

from ..simulate import simulate
from ..streams import STALLS, receive, send


@pytest.mark.parametrize("slow", STALLS)
@pytest.mark.parametrize("late", STALLS)
def test_equals_the_specification(late: int | None, slow: int | None, seed: int):
    chance, dut = random.Random(seed), SlipEncoder()
    frames = [bytes(chance.choice((END, ESCAPE, chance.randrange(256))) for _ in range(n)) for n in (1, 2, 1, 3, 20, 20)]
    expected = b"".join(encode(frame) for frame in frames)

    async def source(ctx):
        pairs = [{"data": byte, "last": n == len(frame) - 1} for frame in frames for n, byte in enumerate(frame)]
        await send(ctx, dut.i, pairs, late)

    async def sink(ctx):
        assert bytes(await receive(ctx, dut.o, len(expected), slow)) == expected

    simulate(dut, source, sink)
