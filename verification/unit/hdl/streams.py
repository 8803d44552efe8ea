"""Streams driven and read by testbenches, with and without stalls."""

import random
from collections.abc import Iterable
from typing import Any

#: None: never stall. Otherwise the seed of stalls in about half of the cycles.
STALLS = (None, 1, 2)


async def _stall(ctx: Any, stalls: random.Random | None) -> None:
    while stalls is not None and stalls.random() < 0.5:
        await ctx.tick()


async def send(ctx: Any, stream: Any, payloads: Iterable[Any], seed: int | None = None) -> None:
    stalls = None if seed is None else random.Random(seed)
    for payload in payloads:
        await _stall(ctx, stalls)
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        await ctx.tick().until(stream.ready)
        ctx.set(stream.valid, 0)


async def receive(ctx: Any, stream: Any, count: int, seed: int | None = None) -> list[Any]:
    stalls = None if seed is None else random.Random(seed)
    received = []
    for _ in range(count):
        await _stall(ctx, stalls)
        ctx.set(stream.ready, 1)
        (payload,) = await ctx.tick().sample(stream.payload).until(stream.valid)
        ctx.set(stream.ready, 0)
        received.append(payload)
    return received


class Cycles:
    """Counts cycles, so that a test can say when something happened: `now` is the number of clock edges so far."""

    def __init__(self) -> None:
        self.now = 0

    async def count(self, ctx: Any) -> None:
        async for _ in ctx.tick():
            self.now += 1
