"""A master on an AXI4-Lite port that pauses on every channel, and checks what it is answered."""

import random
from typing import Any

from .bench import pause


class LiteMaster:
    """Reads and writes registers.

    `stall` is the probability that a channel pauses in a cycle. Address and data of a write are offered independently of each
    other, in any order.
    """

    def __init__(self, axi: Any, seed: int = 0, stall: float = 0.0) -> None:
        self.axi, self.chance, self.stall = axi, random.Random(seed), stall

    async def write(self, ctx: Any, offset: int, value: int, strobe: int = 0b1111) -> None:
        aw, w, b = self.axi.aw, self.axi.w, self.axi.b
        ctx.set(aw.payload, {"address": offset})
        ctx.set(w.payload, {"data": value, "strobe": strobe})
        offered, taken = {aw: False, w: False}, {aw: False, w: False}
        while not all(taken.values()):
            for channel in (aw, w):
                # Once offered it stays.
                offered[channel] = offered[channel] or self.chance.random() >= self.stall
                ctx.set(channel.valid, offered[channel] and not taken[channel])
            _, _, aw_ready, w_ready, answered = await ctx.tick().sample(aw.ready, w.ready, b.valid)
            assert not answered, "a write was answered before it was taken"
            for channel, ready in ((aw, aw_ready), (w, w_ready)):
                taken[channel] = taken[channel] or bool(offered[channel] and ready)
        ctx.set(aw.valid, 0)
        ctx.set(w.valid, 0)
        assert (await self._answer(ctx, b)).response == 0

    async def read(self, ctx: Any, offset: int) -> int:
        ar, r = self.axi.ar, self.axi.r
        await pause(ctx, self.chance, self.stall)
        ctx.set(ar.payload, {"address": offset})
        ctx.set(ar.valid, 1)
        await ctx.tick().until(ar.ready)
        ctx.set(ar.valid, 0)
        answer = await self._answer(ctx, r)
        assert answer.response == 0
        return answer.data

    async def _answer(self, ctx: Any, channel: Any) -> Any:
        offered = None
        while True:
            ctx.set(channel.ready, self.chance.random() >= self.stall)
            _, _, valid, ready, payload = await ctx.tick().sample(channel.valid, channel.ready, channel.payload)
            if offered is not None:
                assert valid, "an answer was withdrawn"
                assert payload == offered, "an answer changed while it was not taken"
            offered = payload if valid else None
            if valid and ready:
                ctx.set(channel.ready, 0)
                return payload
