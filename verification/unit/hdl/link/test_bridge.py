"""The bridge at its pins, with the bytes that `spec.link` makes."""

import random

import pytest

from tailrace.spec.link import IDENTITY, MAX_PAYLOAD, VERSION, Kind

from .board import CLOCK_HZ, MEMORY_BYTES, Board


@pytest.mark.parametrize("stall", [0.0, 0.7])
@pytest.mark.parametrize("clocks_per_bit", [4, 5, 8])
def test_every_kind(clocks_per_bit: int, stall: float, seed: int):
    board, chance = Board(clocks_per_bit, seed, stall), random.Random(seed)
    registers, words = board.registers, board.words

    async def testbench(ctx):
        await board.begin(ctx)
        assert ctx.get(board.dut.open)
        assert await board.fine(ctx, Kind.STATUS) == b""
        data = chance.randbytes(12) + b"\xc0\xdb\xdc\xdd" * 2
        assert await board.fine(ctx, Kind.WRITE_MEMORY, 0x1230, payload=data) == b""
        assert words.writes == [*range(0x1230, 0x1230 + len(data), 4)]
        assert await board.fine(ctx, Kind.READ_MEMORY, 0x1234, 12) == data[4:16]
        assert await board.fine(ctx, Kind.WRITE_REGISTER, 0xFFC, payload=b"\xc0\x01\x02\xdb") == b""
        assert registers.writes == [(0xFFC, 0xDB0201C0)]
        value = await board.fine(ctx, Kind.READ_REGISTER, 0x10, 4)
        assert value == registers.value(0x10, 1).to_bytes(4, "little")
        assert registers.reads == [0x10]

    board.run(testbench)


def test_identity():
    board = Board()

    async def testbench(ctx):
        assert not ctx.get(board.dut.open)
        response = await board.begin(ctx, 77)
        assert response.payload == IDENTITY.pack(VERSION, MAX_PAYLOAD, CLOCK_HZ, MEMORY_BYTES)

    board.run(testbench)
