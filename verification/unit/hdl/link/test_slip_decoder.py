import random

from tailrace.hdl.link.slip_decoder import SlipDecoder
from tailrace.spec.link import END, ESCAPE, ESCAPED_END, ESCAPED_ESCAPE, decode, encode

from ..simulate import simulate


def decoded(received: list[int | None]) -> list[bytes | None]:
    """What the decoder makes of bytes, None being a damaged one: its frames up to the last END, None if damaged."""
    dut = SlipDecoder()
    frames: list[bytes | None] = []

    async def testbench(ctx):
        frame = bytearray()
        for byte in received:
            ctx.set(dut.i.payload, {"data": byte or 0, "damaged": byte is None})
            ctx.set(dut.i.valid, 1)
            _, _, valid, o = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid and o.end:
                frames.append(None if o.damaged else bytes(frame))
                frame.clear()
            elif valid:
                frame.append(o.data)

    simulate(dut, testbench)
    return frames


def test_equals_the_specification(seed: int):
    """Random bytes, among which those that mean something are frequent."""
    chance = random.Random(seed)
    special = (END, ESCAPE, ESCAPE, ESCAPED_END, ESCAPED_ESCAPE)
    data = bytes(chance.choice((*special, chance.randrange(256))) for _ in range(1500))
    assert decoded([*data]) == [decode(part) for part in data.split(bytes([END]))][:-1]


def test_frames(seed: int):
    chance = random.Random(seed)
    frames = [bytes(chance.choice((END, ESCAPE, 0)) for _ in range(length)) for length in range(8)]
    assert decoded([byte for frame in frames for byte in encode(frame)]) == [part for frame in frames for part in (b"", frame)]


def test_a_damaged_byte_damages_its_frame_only():
    assert decoded([1, None, END, 2, END]) == [None, b"\2"]
    assert decoded([1, ESCAPE, None, ESCAPED_END, END, END]) == [None, b""]
    assert decoded([1, ESCAPE, END, 2, END]) == [None, b"\2"]
    assert decoded([None, END]) == [None]
