"""A bridge with registers and memory behind it, and a host's end of its serial line."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Module, ResetInserter, Signal

from tailrace.hdl.link.bridge import LinkBridge
from tailrace.spec.link import END, FLAG_MEMORY_READY, Kind, Request, Response, Status, decode, encode, unpack_response

from ..simulate import simulate
from .bus import Registers, Words

MEMORY_BYTES = 1 << 16
CLOCK_HZ = 12_345_678
SESSION = 0xC0DB
#: Seconds between two edges of the simulated clock.
CYCLE = 1e-6


async def transmit(ctx: Any, line: Any, clocks_per_bit: int, data: bytes) -> None:
    """Send bytes at the pins."""
    for byte in data:
        for bit in (0, *(byte >> n & 1 for n in range(8)), 1):
            ctx.set(line, bit)
            await ctx.delay(clocks_per_bit * CYCLE)


async def listen(ctx: Any, line: Any, clocks_per_bit: int, received: bytearray) -> None:
    """Receive bytes at the pins, for ever."""
    while True:
        await ctx.negedge(line)
        await ctx.delay(clocks_per_bit * CYCLE / 2)
        assert ctx.get(line) == 0
        byte = 0
        for n in range(8):
            await ctx.delay(clocks_per_bit * CYCLE)
            byte |= ctx.get(line) << n
        await ctx.delay(clocks_per_bit * CYCLE)
        assert ctx.get(line) == 1, "no stop bit"
        received.append(byte)


class Board:
    """A `LinkBridge` to try."""

    def __init__(
        self, clocks_per_bit: int = 4, seed: int = 0, stall: float = 0.0, watchdog_cycles: int = 5000, ready: int = 1
    ) -> None:
        self.clocks_per_bit = clocks_per_bit
        self.dut = LinkBridge(clocks_per_bit, CLOCK_HZ, MEMORY_BYTES, watchdog_cycles=watchdog_cycles)
        self.registers = Registers(self.dut.control, seed, stall)
        self.words = Words(self.dut.read, self.dut.write, seed, stall)
        self.reset, self.ready = Signal(), ready
        self.received = bytearray()
        self.sequence = 0

    def run(self, *testbenches: Callable[..., Any], limit: int = 400_000) -> None:
        async def prepare(ctx: Any) -> None:
            ctx.set(self.dut.memory_ready, self.ready)

        async def host(ctx: Any) -> None:
            await listen(ctx, self.dut.tx, self.clocks_per_bit, self.received)

        m = Module()
        m.submodules.bridge = ResetInserter(self.reset)(self.dut)
        simulate(
            m,
            *testbenches,
            background=(
                prepare,
                host,
                self.registers.run_reads,
                self.registers.run_writes,
                self.words.run_reads,
                self.words.run_writes,
            ),
            limit=limit,
        )

    async def send(self, ctx: Any, data: bytes) -> None:
        """Send bytes as they are."""
        await transmit(ctx, self.dut.rx, self.clocks_per_bit, data)

    async def silence(self, ctx: Any, bytes_long: int = 6) -> None:
        """Wait, and see that nothing comes."""
        before = len(self.received)
        await ctx.delay(10 * self.clocks_per_bit * bytes_long * CYCLE)
        assert len(self.received) == before, "an answer to something damaged"

    async def frame(self, ctx: Any, cycles: int = 60_000) -> Response:
        """Wait for the next response, and take it."""
        for _ in range(cycles // self.clocks_per_bit):
            if self.received.count(END) >= 2:
                break
            await ctx.delay(self.clocks_per_bit * CYCLE)
        # Exactly one frame, between an END and another one.
        head, body, tail = bytes(self.received).split(bytes([END]))
        assert not head
        assert not tail
        self.received.clear()
        unpacked = decode(body)
        assert unpacked is not None
        response = unpack_response(unpacked)
        assert response is not None
        assert encode(response.pack()) == bytes([END]) + body + bytes([END])
        return response

    async def ask(self, ctx: Any, request: Request) -> Response:
        """Send a request and wait for its response, which must be its own."""
        await self.send(ctx, encode(request.pack()))
        response = await self.frame(ctx)
        assert response.kind == request.kind | 0x80
        assert (response.sequence, response.session) == (request.sequence, request.session)
        return response

    def request(self, kind: int, address: int = 0, length: int = 0, payload: bytes = b"") -> Request:
        """The next request of the session."""
        self.sequence = (self.sequence + 1) % 256
        return Request(kind, self.sequence, SESSION, address, length or len(payload), payload)

    async def begin(self, ctx: Any, sequence: int = 0) -> Response:
        """Open the session."""
        self.sequence = sequence
        response = await self.ask(ctx, Request(Kind.OPEN, sequence, SESSION))
        assert response.status == Status.OK
        return response

    async def fine(self, ctx: Any, kind: int, address: int = 0, length: int = 0, payload: bytes = b"") -> bytes:
        """Do something that must work, and return what was read."""
        response = await self.ask(ctx, self.request(kind, address, length, payload))
        assert response.status == Status.OK
        assert response.flags & FLAG_MEMORY_READY
        return response.payload
