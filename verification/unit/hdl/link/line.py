"""The host's end of a line: bytes at the pins of a UART, or without one."""

from typing import Any, Protocol

#: Seconds between two edges of the simulated clock.
CYCLE = 1e-6


class Line(Protocol):
    """`received` is what has come and was not looked at."""

    received: bytearray
    #: Cycles that a byte takes.
    byte_cycles: int

    async def send(self, ctx: Any, data: bytes) -> None:
        """Send bytes."""
        ...

    async def listen(self, ctx: Any) -> None:
        """Receive bytes, for ever."""
        ...


async def transmit(ctx: Any, rx: Any, bit_cycles: float, data: bytes, stop: int = 1) -> None:
    """Drive a UART's line; `bit_cycles` need not be whole."""
    for byte in data:
        for bit in (0, *(byte >> n & 1 for n in range(8)), stop):
            ctx.set(rx, bit)
            await ctx.delay(bit_cycles * CYCLE)
    ctx.set(rx, 1)


class Pins:
    """A UART's two wires."""

    def __init__(self, rx: Any, tx: Any, clocks_per_bit: int) -> None:
        self.rx, self.tx, self.clocks_per_bit = rx, tx, clocks_per_bit
        self.received = bytearray()
        self.byte_cycles = 10 * clocks_per_bit

    async def send(self, ctx: Any, data: bytes) -> None:
        await transmit(ctx, self.rx, self.clocks_per_bit, data)

    async def listen(self, ctx: Any) -> None:
        bit = self.clocks_per_bit * CYCLE
        while True:
            await ctx.negedge(self.tx)
            await ctx.delay(bit / 2)
            assert ctx.get(self.tx) == 0, "a start bit that is too short"
            byte = 0
            for n in range(8):
                await ctx.delay(bit)
                byte |= ctx.get(self.tx) << n
            await ctx.delay(bit)
            assert ctx.get(self.tx) == 1, "no stop bit"
            self.received.append(byte)


class Bytes:
    """The byte streams of an endpoint, which takes a byte every few cycles and may have to wait with its own."""

    def __init__(self, i: Any, o: Any, gap: int = 1) -> None:
        self.i, self.o, self.gap = i, o, gap
        self.received = bytearray()
        self.byte_cycles = 1 + gap

    async def send(self, ctx: Any, data: bytes) -> None:
        for byte in data:
            ctx.set(self.i.payload, {"data": byte, "damaged": 0})
            ctx.set(self.i.valid, 1)
            await ctx.tick()
            ctx.set(self.i.valid, 0)
            if self.gap:
                await ctx.tick().repeat(self.gap)

    async def listen(self, ctx: Any) -> None:
        while True:
            if not ctx.get(self.o.valid):
                await ctx.posedge(self.o.valid)
            if self.gap:
                await ctx.tick().repeat(self.gap)
            ctx.set(self.o.ready, 1)
            _, _, valid, byte = await ctx.tick().sample(self.o.valid, self.o.payload)
            ctx.set(self.o.ready, 0)
            assert valid, "a byte was withdrawn"
            self.received.append(byte)
