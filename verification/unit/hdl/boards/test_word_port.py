"""Words on a port of wider beats."""

import random
from typing import Any

import pytest

from tailrace.hdl.boards.word_port import WordPort
from verification.unit.hdl.simulate import simulate


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("data_width", [64, 128])
def test_words_go_to_their_places_and_come_from_them(data_width: int, stalls: bool, seed: int) -> None:
    """Any strobe, in any order of the channels; what a write doesn't mean stays."""
    dut = WordPort(32, data_width)
    chance = random.Random(seed)
    beat_bytes = data_width // 8
    memory = bytearray(chance.randbytes(16 * beat_bytes))
    expected = bytearray(memory)

    def willing() -> bool:
        return not stalls or chance.random() < 0.5

    async def bus(ctx: Any) -> None:
        address: int | None = None
        data: tuple[int, int] | None = None
        answers, wanted = 0, None
        while True:
            aw, w, ar = address is None and willing(), data is None and willing(), wanted is None and willing()
            ctx.set(dut.write.aw.ready, aw)
            ctx.set(dut.write.w.ready, w)
            ctx.set(dut.read.ar.ready, ar)
            ctx.set(dut.write.b.valid, answers)
            beat = wanted is not None and willing()
            ctx.set(dut.read.r.valid, beat)
            if beat:
                ctx.set(dut.read.r.p.data, int.from_bytes(memory[wanted : wanted + beat_bytes], "little"))
                ctx.set(dut.read.r.p.last, 1)
            await ctx.delay(1e-8)
            if aw and ctx.get(dut.write.aw.valid):
                address = ctx.get(dut.write.aw.p.address)
                assert address % beat_bytes == ctx.get(dut.write.aw.p.length) == 0
            if w and ctx.get(dut.write.w.valid):
                assert ctx.get(dut.write.w.p.last)
                data = ctx.get(dut.write.w.p.data), ctx.get(dut.write.w.p.strobe)
            if answers and ctx.get(dut.write.b.ready):
                answers = 0
            if beat and ctx.get(dut.read.r.ready):
                wanted = None
            if ar and ctx.get(dut.read.ar.valid):
                wanted = ctx.get(dut.read.ar.p.address)
                assert wanted % beat_bytes == ctx.get(dut.read.ar.p.length) == 0
            if address is not None and data is not None:
                for i, byte in enumerate(data[0].to_bytes(beat_bytes, "little")):
                    if data[1] >> i & 1:
                        memory[address + i] = byte
                address, data, answers = None, None, 1
            await ctx.tick()

    async def send(ctx: Any, stream: Any) -> None:
        while not willing():
            await ctx.tick()
        ctx.set(stream.valid, 1)

    async def user(ctx: Any) -> None:
        read, write = dut.host_read, dut.host_write
        for _ in range(60):
            place = 4 * chance.randrange(len(memory) // 4)
            if chance.random() < 0.5:
                value, strobe = chance.getrandbits(32), chance.choice((15, 15, chance.randrange(16)))
                for i, byte in enumerate(value.to_bytes(4, "little")):
                    if strobe >> i & 1:
                        expected[place + i] = byte
                ctx.set(write.aw.p.address, place)
                ctx.set(write.w.p, {"data": value, "strobe": strobe, "last": 1})
                order = [write.aw, write.w]
                chance.shuffle(order)
                for channel in order:
                    await send(ctx, channel)
                ctx.set(write.b.ready, 1)
                open_channels = set(order)
                while open_channels:
                    await ctx.delay(2e-8)
                    taken = {channel for channel in open_channels if ctx.get(channel.ready)}
                    await ctx.tick()
                    for channel in taken:
                        ctx.set(channel.valid, 0)
                    open_channels -= taken
                await ctx.tick().until(write.b.valid)
                ctx.set(write.b.ready, 0)
                assert memory == expected, f"seed {seed}"
            else:
                ctx.set(read.ar.p.address, place)
                await send(ctx, read.ar)
                await ctx.tick().until(read.ar.ready)
                ctx.set(read.ar.valid, 0)
                ctx.set(read.r.ready, 1)
                found = await ctx.tick().sample(read.r.p.data).until(read.r.valid)
                ctx.set(read.r.ready, 0)
                assert found[0].to_bytes(4, "little") == expected[place : place + 4], f"seed {seed}"

    simulate(dut, user, background=[bus])
