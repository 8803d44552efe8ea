"""What the tests of the control part share: streams driven with and without stalls, watched for their contract."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from amaranth.hdl import Const

#: Probabilities of a pause in a cycle.
STALLS = (0.0, 0.5)


class Clock:
    """Counts cycles: `now` is the number of the present one."""

    def __init__(self) -> None:
        self.now = 0

    async def run(self, ctx: Any) -> None:
        while True:
            await ctx.tick()
            self.now += 1


async def pause(ctx: Any, chance: random.Random, stall: float) -> None:
    while chance.random() < stall:
        await ctx.tick()


class Source:
    """Offers payloads, one after the other, and remembers the cycle in which each was offered first and taken."""

    def __init__(self, stream: Any, payloads: Iterable[Any], clock: Clock, seed: int = 0, stall: float = 0.0) -> None:
        self.stream, self.payloads, self.clock = stream, payloads, clock
        self.chance, self.stall = random.Random(seed), stall
        self.offered: list[int] = []
        self.taken: list[int] = []

    async def run(self, ctx: Any) -> None:
        stream = self.stream
        for payload in self.payloads:
            await pause(ctx, self.chance, self.stall)
            ctx.set(stream.payload, payload)
            ctx.set(stream.valid, 1)
            self.offered.append(self.clock.now)
            while not (await ctx.tick().sample(stream.ready))[2]:
                pass
            self.taken.append(self.clock.now - 1)
            ctx.set(stream.valid, 0)


class Sink:
    """Takes payloads, remembers them with their cycles, and checks that an offer stays until it is taken.

    In a cycle in which `flush` is 1, and in the one after it, an offer may be withdrawn. `limit` is the number that is taken.
    """

    def __init__(
        self,
        stream: Any,
        clock: Clock,
        seed: int = 0,
        stall: float = 0.0,
        limit: int | None = None,
        flush: Any = None,
        on_taken: Callable[[Any], None] = lambda payload: None,
    ) -> None:
        self.stream, self.clock, self.flush, self.on_taken = stream, clock, flush, on_taken
        self.chance, self.stall, self.limit = random.Random(seed), stall, limit
        self.payloads: list[Any] = []
        self.taken: list[int] = []

    async def run(self, ctx: Any) -> None:
        stream = self.stream
        flush = Const(0, 1) if self.flush is None else self.flush
        waiting, was_flushed = None, 0
        while True:
            open_ = self.limit is None or len(self.payloads) < self.limit
            ctx.set(stream.ready, open_ and self.chance.random() >= self.stall)
            _, _, valid, ready, payload, flushed = await ctx.tick().sample(stream.valid, stream.ready, stream.payload, flush)
            if waiting is not None and not flushed and not was_flushed:
                assert valid, f"an offer was withdrawn before cycle {self.clock.now}"
                assert payload == waiting, f"an offer was replaced before cycle {self.clock.now}"
            waiting, was_flushed = payload if valid and not ready else None, flushed
            if valid and ready:
                self.payloads.append(payload)
                self.taken.append(self.clock.now - 1)
                self.on_taken(payload)
