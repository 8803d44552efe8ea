"""A bridge or an endpoint with registers and memory behind it, and a host at the other end of its line."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Module, ResetInserter, Signal

from tailrace.hdl.link.bridge import LinkBridge
from tailrace.hdl.link.endpoint import LinkEndpoint
from tailrace.spec.link import END, RESPONSE, Kind, Request, Response, Status, decode, encode, unpack_response

from ..simulate import simulate
from .bus import Registers, Words
from .line import CYCLE, Bytes, Line, Pins

MEMORY_BYTES = 1 << 16
CLOCK_HZ = 12_345_678
SESSION = 0xC0DB


class Board:
    """What a host talks to: with `clocks_per_bit` a `LinkBridge` at its pins, else a `LinkEndpoint`."""

    def __init__(
        self,
        clocks_per_bit: int | None = None,
        seed: int = 0,
        stall: float = 0.0,
        watchdog_cycles: int = 5000,
        memory_ready: int = 1,
    ) -> None:
        dut: LinkBridge | LinkEndpoint
        if clocks_per_bit is None:
            self.dut = dut = LinkEndpoint(CLOCK_HZ, MEMORY_BYTES, watchdog_cycles=watchdog_cycles)
            self.line: Line = Bytes(dut.i, dut.o)
        else:
            self.dut = dut = LinkBridge(clocks_per_bit, CLOCK_HZ, MEMORY_BYTES, watchdog_cycles=watchdog_cycles)
            self.line = Pins(dut.rx, dut.tx, clocks_per_bit)
        self.registers = Registers(dut.control, seed, stall)
        self.words = Words(dut.read, dut.write, seed, stall)
        self.reset, self.memory_ready = Signal(), memory_ready
        self.sequence = 0

    def run(self, *testbenches: Callable[..., Any], limit: int = 400_000) -> None:
        async def prepare(ctx: Any) -> None:
            ctx.set(self.dut.memory_ready, self.memory_ready)

        m = Module()
        m.submodules.dut = ResetInserter(self.reset)(self.dut)
        models = (self.registers.run_reads, self.registers.run_writes, self.words.run_reads, self.words.run_writes)
        simulate(m, *testbenches, background=(prepare, self.line.listen, *models), limit=limit)

    async def restart(self, ctx: Any) -> None:
        """Reset the bridge and all that is behind it."""
        ctx.set(self.reset, 1)
        for transfers in (self.registers.reading, self.registers.writing, self.words.reading, self.words.writing):
            transfers.restarted = True
        await ctx.tick().repeat(2)
        ctx.set(self.reset, 0)
        self.line.received.clear()

    async def send(self, ctx: Any, data: bytes) -> None:
        """Send bytes as they are."""
        await self.line.send(ctx, data)

    async def silence(self, ctx: Any, bytes_long: int = 12) -> None:
        """Wait, and see that nothing comes."""
        await ctx.delay(self.line.byte_cycles * bytes_long * CYCLE)
        assert not self.line.received, "an answer to something damaged"

    async def response(self, ctx: Any, cycles: int = 60_000) -> Response:
        """Wait for the next response, and take it: nothing but one frame between two ends."""
        for _ in range(cycles // self.line.byte_cycles):
            if self.line.received.count(END) >= 2:
                break
            await ctx.delay(self.line.byte_cycles * CYCLE)
        else:
            raise AssertionError(f"no response; received: {self.line.received.hex(' ')}")
        head, body, tail = bytes(self.line.received).split(bytes([END]))
        assert (head, tail) == (b"", b"")
        self.line.received.clear()
        frame = decode(body)
        assert frame is not None
        response = unpack_response(frame)
        assert response is not None
        assert encode(response.pack()) == bytes([END]) + body + bytes([END])
        return response

    async def ask(self, ctx: Any, request: Request) -> Response:
        """Send a request and wait for its response, which must be its own."""
        await self.send(ctx, encode(request.pack()))
        response = await self.response(ctx)
        assert (response.kind, response.sequence) == (request.kind | RESPONSE, request.sequence)
        assert response.session == request.session
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

    async def do(
        self, ctx: Any, kind: int, address: int = 0, length: int = 0, payload: bytes = b"", status: Status = Status.OK
    ) -> bytes:
        """Have the next request carried out, which must end with `status`, and return what was read."""
        response = await self.ask(ctx, self.request(kind, address, length, payload))
        assert response.status == status
        return response.payload
