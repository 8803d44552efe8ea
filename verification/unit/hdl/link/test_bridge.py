"""The bridge at its pins. What does not need a UART is tested without one, in test_endpoint.py."""

import random
import re

import pytest

from tailrace.hdl.link.bridge import LinkBridge
from tailrace.spec.link import END, Kind, Request, Status, encode

from .board import Board
from .line import CYCLE


@pytest.mark.parametrize(("clocks_per_bit", "stall"), [(4, 0.0), (5, 0.7)])
def test_every_kind(clocks_per_bit: int, stall: float, seed: int):
    board, chance = Board(clocks_per_bit, seed, stall), random.Random(seed)

    async def testbench(ctx):
        await board.begin(ctx)
        assert ctx.get(board.dut.open)
        assert await board.do(ctx, Kind.STATUS) == b""
        data = bytes([0xC0, 0xDB, 0xDC, 0xDD]) + chance.randbytes(4)
        assert await board.do(ctx, Kind.WRITE_MEMORY, 0x1230, payload=data) == b""
        assert await board.do(ctx, Kind.READ_MEMORY, 0x1230, 8) == data
        assert await board.do(ctx, Kind.WRITE_REGISTER, 0xFFC, payload=b"\xc0\x01\x02\xdb") == b""
        assert board.registers.writes == [(0xFFC, 0xDB0201C0)]
        value = await board.do(ctx, Kind.READ_REGISTER, 0x10, 4)
        assert value == board.registers.value(0x10, 1).to_bytes(4, "little")
        values = await board.do(ctx, Kind.READ_REGISTERS, 0xFF8, 8)
        assert values == b"".join(board.registers.value(0xFF4 + 4 * n, 1 + n).to_bytes(4, "little") for n in (1, 2))

    board.run(testbench)


def test_damage_on_the_wire():
    """A byte without its stop bit, a spike, a line that is held low, and a frame that breaks off."""
    board = Board(4)

    async def testbench(ctx):
        rx = board.dut.rx
        await board.begin(ctx)
        good = encode(board.request(Kind.READ_REGISTER, 0x20, 4).pack())
        # Half of a frame, then a stop bit that is missing: as if the line were held low.
        await board.send(ctx, good[:9])
        ctx.set(rx, 0)
        await ctx.delay(50 * CYCLE)
        ctx.set(rx, 1)
        await ctx.delay(8 * CYCLE)
        await board.send(ctx, good[9:])
        await board.silence(ctx)
        # A spike before the start bit's middle is no byte, not even in the middle of a frame.
        await board.send(ctx, good[:9])
        await ctx.delay(8 * CYCLE)
        ctx.set(rx, 0)
        await ctx.delay(CYCLE)
        ctx.set(rx, 1)
        await ctx.delay(20 * CYCLE)
        assert not board.registers.reads
        await board.send(ctx, good[9:])
        assert (await board.response(ctx)).status == Status.OK
        assert board.registers.reads == [0x20]
        await board.send(ctx, good[:13])
        assert await board.do(ctx, Kind.STATUS) == b""

    board.run(testbench)


def test_deaf_while_it_answers():
    """What comes while a response is being sent does no harm, and is not answered; then the next frame is."""
    board = Board(4)

    async def testbench(ctx):
        await board.begin(ctx)
        request, late = board.request(Kind.READ_MEMORY, 0, 32), Request(Kind.WRITE_REGISTER, 2, 0xC0DB, 0, 4, b"abcd")
        board.words.content = {0: 1, 28: 2}
        await board.send(ctx, encode(request.pack()))
        await board.send(ctx, encode(late.pack()))
        assert (await board.response(ctx)).payload == b"\1" + bytes(27) + b"\2" + bytes(3)
        await board.silence(ctx)
        assert not board.registers.writes
        assert (await board.ask(ctx, late)).status == Status.OK
        assert board.registers.writes == [(0, int.from_bytes(b"abcd", "little"))]

    board.run(testbench)


def test_an_answer_to_the_answer():
    """A host may send as soon as it has the response's last byte, of which the stop bit is not over yet."""
    board = Board(8)

    async def testbench(ctx):
        await board.begin(ctx)
        for _ in range(2):
            await board.send(ctx, encode(board.request(Kind.STATUS).pack()))
            while board.line.received.count(END) < 2:
                await ctx.delay(CYCLE)
            board.line.received.clear()

    board.run(testbench, limit=10_000)


@pytest.mark.parametrize("clocks_per_bit", [3, 0, -4, 4.0, "4", True])
def test_refuses_clocks_per_bit(clocks_per_bit):
    with pytest.raises(
        ValueError, match=re.escape(f"clocks_per_bit must be a whole number of at least 4, not {clocks_per_bit!r}") + "$"
    ):
        LinkBridge(clocks_per_bit, 100, 4)
