"""Registers and memory behind the bridge's ports: Python models that count accesses, pause, fail and hang as a test wants."""

import random
from typing import Any

from tailrace.hdl.axi.signature import Response


class Transfers:
    """Answers the transfers of one direction of a port, and checks that an offer stays until it is taken.

    `stall` is the probability that a channel pauses in a cycle. While `hung`, nothing is answered.
    """

    def __init__(self, seed: int, stall: float) -> None:
        self.chance, self.stall = random.Random(seed), stall
        self.hung = False
        #: Set to forget everything, as in a reset.
        self.restarted = False

    async def answer(self, ctx: Any, requests: tuple[Any, ...], answer: Any, act: Any) -> None:
        """Take one payload of each of `requests` in any order, then offer what `act` makes of them."""
        taken: dict[int, Any] = {}
        offered: dict[int, Any] = {}
        answering = None
        while True:
            if self.restarted:
                taken, offered, answering, self.restarted = {}, {}, None, False
            if answering is None and len(taken) == len(requests) and not self.hung and self.chance.random() >= self.stall:
                answering = act(*(taken[n] for n in range(len(requests))))
                taken = {}
            ctx.set(answer.valid, answering is not None)
            if answering is not None:
                ctx.set(answer.payload, answering)
            ready = [
                n not in taken and answering is None and not self.hung and self.chance.random() >= self.stall
                for n in range(len(requests))
            ]
            for channel, on in zip(requests, ready, strict=True):
                ctx.set(channel.ready, on)
            if not taken and answering is None and not any(ctx.get(channel.valid) for channel in requests):
                # Waiting for an offer in this way costs the simulation no time.
                await ctx.posedge(requests[0].valid)
                self.restarted = False
            _, _, answer_ready, *samples = await ctx.tick().sample(
                answer.ready, *(part for channel in requests for part in (channel.valid, channel.payload))
            )
            for n in range(len(requests)):
                valid, payload = samples[2 * n], samples[2 * n + 1]
                if n in offered and not self.restarted:
                    assert valid, "an offer was withdrawn"
                    assert payload == offered[n], "an offer changed while it was not taken"
                offered.pop(n, None)
                if valid and ready[n]:
                    taken[n] = payload
                elif valid:
                    offered[n] = payload
            if answering is not None and answer_ready:
                answering = None


class Registers:
    """Registers on AXI4-Lite: `reads` and `writes` list the accesses; reading the same one twice gives two values."""

    def __init__(self, port: Any, seed: int = 0, stall: float = 0.0) -> None:
        self.port = port
        self.reading, self.writing = Transfers(seed, stall), Transfers(seed + 1, stall)
        self.reads: list[int] = []
        self.writes: list[tuple[int, int]] = []
        self.errors: set[int] = set()

    def value(self, offset: int, access: int) -> int:
        """What the read number `access` gives."""
        return (offset << 16 | access) ^ 0xC0DBDCDD

    def _read(self, address: Any) -> dict[str, int]:
        self.reads.append(address.address)
        data = self.value(address.address, len(self.reads))
        return {"data": data, "response": Response.SLVERR if address.address in self.errors else Response.OKAY}

    def _write(self, address: Any, beat: Any) -> dict[str, int]:
        assert beat.strobe == 0b1111
        self.writes.append((address.address, beat.data))
        return {"response": Response.SLVERR if address.address in self.errors else Response.OKAY}

    async def run_reads(self, ctx: Any) -> None:
        await self.reading.answer(ctx, (self.port.ar,), self.port.r, self._read)

    async def run_writes(self, ctx: Any) -> None:
        await self.writing.answer(ctx, (self.port.aw, self.port.w), self.port.b, self._write)


class Words:
    """Memory of 32-bit words on AXI4: `content` holds them by their address."""

    def __init__(self, read: Any, write: Any, seed: int = 0, stall: float = 0.0) -> None:
        self.read, self.write = read, write
        self.reading, self.writing = Transfers(seed + 2, stall), Transfers(seed + 3, stall)
        self.content: dict[int, int] = {}
        self.reads: list[int] = []
        self.writes: list[int] = []
        self.errors: set[int] = set()

    def _response(self, address: int) -> Response:
        return Response.DECERR if address in self.errors else Response.OKAY

    def _read(self, burst: Any) -> dict[str, int]:
        assert burst.length == 0
        self.reads.append(burst.address)
        data = self.content.get(burst.address, 0)
        return {"data": data, "response": self._response(burst.address), "last": 1}

    def _write(self, burst: Any, beat: Any) -> dict[str, int]:
        assert (burst.length, beat.last, beat.strobe) == (0, 1, 0b1111)
        self.writes.append(burst.address)
        self.content[burst.address] = beat.data
        return {"response": self._response(burst.address)}

    async def run_reads(self, ctx: Any) -> None:
        await self.reading.answer(ctx, (self.read.ar,), self.read.r, self._read)

    async def run_writes(self, ctx: Any) -> None:
        await self.writing.answer(ctx, (self.write.aw, self.write.w), self.write.b, self._write)
