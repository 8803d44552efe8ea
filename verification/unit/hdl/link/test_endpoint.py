"""The endpoint against what `spec.link` says, without a UART: sessions, sequence numbers, statuses, damage."""

import random
import re

import pytest

from tailrace.hdl.link.endpoint import LinkEndpoint
from tailrace.spec.link import (
    END,
    ESCAPE,
    FLAG_INTERRUPT,
    FLAG_MEMORY_READY,
    IDENTITY,
    MAX_FRAME,
    MAX_PAYLOAD,
    VERSION,
    Kind,
    Request,
    Response,
    Status,
    decode,
    encode,
    unpack_request,
)
from tailrace.spec.registers import ADDRESS_BITS

from .board import CLOCK_HZ, MEMORY_BYTES, SESSION, Board

STALLS = (0.0, 0.6)


def test_identity():
    board = Board()

    async def testbench(ctx):
        assert not ctx.get(board.dut.open)
        response = await board.begin(ctx, 77)
        assert response.payload == IDENTITY.pack(VERSION, MAX_PAYLOAD, CLOCK_HZ, MEMORY_BYTES)
        assert ctx.get(board.dut.open)

    board.run(testbench)


@pytest.mark.parametrize("stall", STALLS)
def test_memory(stall: float, seed: int):
    """Payloads of one word to the longest, up to the memory's last byte."""
    board, chance = Board(seed=seed, stall=stall), random.Random(seed)

    async def testbench(ctx):
        await board.begin(ctx)
        for words in (1, 2, 15) if stall else (3, MAX_PAYLOAD // 4):
            data = bytes(chance.choice((END, ESCAPE, 0xDC, 0xDD, chance.randrange(256))) for _ in range(4 * words))
            address = MEMORY_BYTES - len(data)
            board.words.writes.clear()
            assert await board.do(ctx, Kind.WRITE_MEMORY, address, payload=data) == b""
            assert board.words.writes == [*range(address, MEMORY_BYTES, 4)]
            assert await board.do(ctx, Kind.READ_MEMORY, address, len(data)) == data
            assert board.words.reads[-words:] == board.words.writes

    board.run(testbench)


def test_latency():
    """From the last END of a request to the first of its response, with a bus that answers in the cycle after it is asked."""
    board = Board()

    async def taken(ctx, request):
        await board.send(ctx, encode(request.pack())[:-1])
        ctx.set(board.dut.i.payload, {"data": END, "damaged": 0})
        ctx.set(board.dut.i.valid, 1)
        await ctx.tick()
        ctx.set(board.dut.i.valid, 0)
        cycles = 0
        while not ctx.get(board.dut.o.valid):
            await ctx.tick()
            cycles += 1
        await board.response(ctx)
        return cycles

    async def testbench(ctx):
        await board.begin(ctx)
        none = await taken(ctx, board.request(Kind.STATUS))
        for kind in (Kind.READ_MEMORY, Kind.READ_REGISTERS):
            ten = await taken(ctx, board.request(kind, 0, 40))
            assert (none, (ten - none) / 10) == (8, 6)

    board.run(testbench)


@pytest.mark.parametrize("stall", STALLS)
def test_registers(stall: float, seed: int):
    board, chance = Board(seed=seed, stall=stall), random.Random(seed)

    async def testbench(ctx):
        await board.begin(ctx)
        for n in range(1, 6):
            offset, value = 4 * chance.randrange(1 << ADDRESS_BITS - 2), chance.randbytes(4)
            await board.do(ctx, Kind.WRITE_REGISTER, offset, payload=value)
            assert board.registers.writes[-1] == (offset, int.from_bytes(value, "little"))
            read = await board.do(ctx, Kind.READ_REGISTER, offset, 4)
            assert read == board.registers.value(offset, n).to_bytes(4, "little")
        assert len(board.registers.writes) == len(board.registers.reads) == 5
        assert not board.words.reads
        assert not board.words.writes

    board.run(testbench)


@pytest.mark.parametrize("stall", STALLS)
def test_registers_in_a_row(stall: float, seed: int):
    """One of them, and as many as fit, up to the last one; read again when they are asked for again."""
    board = Board(seed=seed, stall=stall)
    end = 1 << ADDRESS_BITS

    async def testbench(ctx):
        await board.begin(ctx)
        for words in (1, 15) if stall else (26, MAX_PAYLOAD // 4):
            places = [*range(end - 4 * words, end, 4)]
            request = board.request(Kind.READ_REGISTERS, places[0], 4 * words)
            for _ in range(2):
                before = len(board.registers.reads)
                response = await board.ask(ctx, request)
                assert response.status == Status.OK
                assert board.registers.reads[before:] == places
                values = [board.registers.value(place, before + n) for n, place in enumerate(places, 1)]
                assert response.payload == b"".join(value.to_bytes(4, "little") for value in values)
        # The same number for one register is another request.
        again = await board.ask(ctx, Request(Kind.READ_REGISTER, board.sequence, SESSION, 0, 4))
        assert again.status == Status.OUT_OF_SEQUENCE
        assert not board.registers.writes
        assert not board.words.reads

    board.run(testbench)


def test_flags():
    board = Board()

    async def testbench(ctx):
        await board.begin(ctx)
        for interrupt in (0, 1):
            for ready in (0, 1):
                ctx.set(board.dut.interrupt, interrupt)
                ctx.set(board.dut.memory_ready, ready)
                response = await board.ask(ctx, board.request(Kind.STATUS))
                assert response.flags == interrupt * FLAG_INTERRUPT | ready * FLAG_MEMORY_READY

    board.run(testbench)


def test_nothing_without_a_session():
    board = Board()

    async def testbench(ctx):
        for kind in (*Kind, 0, 8, 0x81, 255):
            for session in (0, SESSION):
                if kind != Kind.OPEN:
                    response = await board.ask(ctx, Request(kind, 1, session, 0, 4, bytes(4) if kind in (4, 6) else b""))
                    assert (response.status, response.payload) == (Status.NO_SESSION, b"")
        await board.begin(ctx)
        # Another host opens the board: its session counts, and the one before is over.
        assert (await board.ask(ctx, Request(Kind.OPEN, 200, SESSION + 1))).status == Status.OK
        assert (await board.ask(ctx, Request(Kind.READ_REGISTER, 1, SESSION, 0, 4))).status == Status.NO_SESSION
        assert (await board.ask(ctx, Request(Kind.READ_REGISTER, 201, SESSION + 1, 0, 4))).status == Status.OK
        assert board.registers.reads == [0]
        assert not board.registers.writes

    board.run(testbench)


BAD = {
    "unknown kind": (8, 0, 4, b""),
    "kind 0": (0, 0, 0, b""),
    "a response": (Kind.STATUS | 0x80, 0, 0, b""),
    "open with a length": (Kind.OPEN, 0, 4, b""),
    "open with an address": (Kind.OPEN, 4, 0, b""),
    "open with a payload": (Kind.OPEN, 0, 4, bytes(4)),
    "status with an address": (Kind.STATUS, 1 << 31, 0, b""),
    "status with a length": (Kind.STATUS, 0, 4, b""),
    "nothing to read": (Kind.READ_MEMORY, 0, 0, b""),
    "nothing to write": (Kind.WRITE_MEMORY, 0, 0, b""),
    "odd length": (Kind.READ_MEMORY, 0, 6, b""),
    "odd payload": (Kind.WRITE_MEMORY, 0, 6, bytes(6)),
    "odd address": (Kind.READ_MEMORY, 2, 4, b""),
    "too long": (Kind.READ_MEMORY, 0, MAX_PAYLOAD + 4, b""),
    "much too long": (Kind.READ_MEMORY, 0, 0xFFFC, b""),
    "beyond the memory": (Kind.READ_MEMORY, MEMORY_BYTES, 4, b""),
    "across the memory's end": (Kind.WRITE_MEMORY, MEMORY_BYTES - 4, 8, bytes(8)),
    "across the end of addresses": (Kind.READ_MEMORY, 0xFFFF_FFFC, 8, b""),
    "read with a payload": (Kind.READ_MEMORY, 0, 4, bytes(4)),
    "write without one": (Kind.WRITE_MEMORY, 0, 4, b""),
    "two registers": (Kind.READ_REGISTER, 0, 8, b""),
    "no register": (Kind.READ_REGISTER, 0, 0, b""),
    "odd register": (Kind.READ_REGISTER, 2, 4, b""),
    "beyond the registers": (Kind.READ_REGISTER, 1 << ADDRESS_BITS, 4, b""),
    "register read with a payload": (Kind.READ_REGISTER, 0, 4, bytes(4)),
    "register write without one": (Kind.WRITE_REGISTER, 0, 4, b""),
    "two registers to write": (Kind.WRITE_REGISTER, 0, 8, bytes(8)),
    "register at the end of addresses": (Kind.READ_REGISTER, 0xFFFF_FFFC, 4, b""),
    "no registers": (Kind.READ_REGISTERS, 0, 0, b""),
    "odd registers": (Kind.READ_REGISTERS, 2, 4, b""),
    "odd length of registers": (Kind.READ_REGISTERS, 0, 6, b""),
    "too many registers": (Kind.READ_REGISTERS, 0, MAX_PAYLOAD + 4, b""),
    "across the end of the registers": (Kind.READ_REGISTERS, (1 << ADDRESS_BITS) - 4, 8, b""),
    "behind the registers": (Kind.READ_REGISTERS, 1 << ADDRESS_BITS, 4, b""),
    "registers across the end of addresses": (Kind.READ_REGISTERS, 0xFFFF_FFFC, 8, b""),
    "registers with a payload": (Kind.READ_REGISTERS, 0, 4, bytes(4)),
}


def test_bad_requests():
    """Refused, nothing done; refused again when they come again; and the number is used up, unless it was to open."""
    board = Board()

    async def testbench(ctx):
        await board.begin(ctx)
        for name, (kind, address, length, payload) in BAD.items():
            before = board.sequence
            request = board.request(kind, address, length, payload)
            for _ in range(2):
                response = await board.ask(ctx, request)
                assert (response.status, response.payload) == (Status.BAD_REQUEST, b""), name
            if kind == Kind.OPEN:
                board.sequence = before
            assert await board.do(ctx, Kind.STATUS) == b"", name
        refused = await board.ask(ctx, Request(Kind.OPEN, 9, 0))
        assert (refused.status, refused.payload) == (Status.BAD_REQUEST, b"")
        await board.do(ctx, Kind.STATUS)
        assert not board.registers.reads
        assert not board.registers.writes
        assert not board.words.reads
        assert not board.words.writes

    board.run(testbench)


def test_memory_that_is_not_ready():
    board = Board(memory_ready=0)

    async def testbench(ctx):
        await board.begin(ctx)
        for kind, payload in ((Kind.READ_MEMORY, b""), (Kind.WRITE_MEMORY, bytes(4))):
            response = await board.ask(ctx, board.request(kind, 0, 4, payload))
            assert (response.status, response.flags, response.payload) == (Status.NOT_READY, 0, b"")
        await board.do(ctx, Kind.READ_REGISTER, 0, 4)
        # A request that was refused is refused again when it comes again, whatever has become of the memory; the next is not.
        request = board.request(Kind.READ_MEMORY, 0, 4)
        assert (await board.ask(ctx, request)).status == Status.NOT_READY
        ctx.set(board.dut.memory_ready, 1)
        again = await board.ask(ctx, request)
        assert (again.status, again.flags) == (Status.NOT_READY, FLAG_MEMORY_READY)
        assert board.words.reads == board.words.writes == []
        await board.do(ctx, Kind.READ_MEMORY, 0, 4)

    board.run(testbench)


def test_bus_errors():
    board = Board()

    async def testbench(ctx):
        await board.begin(ctx)
        board.registers.errors, board.words.errors = {8, 0x28}, {0x108}
        for kind, address, length, payload in (
            (Kind.READ_REGISTER, 8, 4, b""),
            (Kind.WRITE_REGISTER, 8, 4, b"1234"),
            (Kind.READ_REGISTERS, 0x20, 16, b""),
            (Kind.READ_MEMORY, 0x100, 16, b""),
            (Kind.WRITE_MEMORY, 0x100, 16, bytes(16)),
        ):
            request = board.request(kind, address, length, payload)
            for _ in range(2):
                response = await board.ask(ctx, request)
                assert (response.status, response.payload) == (Status.BUS_ERROR, b"")
        # Nothing is carried out behind a failure, nor again.
        assert board.registers.reads == [8, 0x20, 0x24, 0x28]
        assert len(board.registers.writes) == 1
        assert board.words.reads == board.words.writes == [0x100, 0x104, 0x108]
        await board.do(ctx, Kind.READ_MEMORY, 0x10C, 4)

    board.run(testbench)


@pytest.mark.parametrize("hung", ["registers", "memory"])
@pytest.mark.parametrize("writes", [False, True])
def test_a_bus_that_hangs(hung: str, writes: bool):
    board = Board(watchdog_cycles=300)
    model = board.registers if hung == "registers" else board.words
    transfers = model.writing if writes else model.reading
    kind = Kind[f"{'WRITE' if writes else 'READ'}_{'REGISTER' if hung == 'registers' else 'MEMORY'}"]
    payload = b"abcd" if writes else b""

    async def testbench(ctx):
        await board.begin(ctx)
        transfers.hung = True
        await board.do(ctx, kind, 0, 4, payload, status=Status.BUS_ERROR)
        # The transfer is still on the bus, so there can be no other.
        await board.do(ctx, Kind.READ_REGISTER, 4, 4, status=Status.BUS_ERROR)
        await board.do(ctx, Kind.READ_REGISTERS, 4, 8, status=Status.BUS_ERROR)
        await board.do(ctx, Kind.READ_MEMORY, 4, 4, status=Status.BUS_ERROR)
        await board.do(ctx, Kind.STATUS)
        assert 4 not in board.registers.reads + board.words.reads
        transfers.hung = False
        await ctx.tick().repeat(10)
        # What was read too late belongs to nobody.
        read = await board.do(ctx, Kind.READ_REGISTER, 4, 4)
        assert read == board.registers.value(4, len(board.registers.reads)).to_bytes(4, "little")

    board.run(testbench)


@pytest.mark.parametrize("stall", STALLS)
def test_requests_that_come_again(stall: float, seed: int):
    """The same bytes but for the flags, however often; registers are accessed once, memory as often as is asked for."""
    board = Board(seed=seed, stall=stall)

    async def testbench(ctx):
        for sequence in (254, 3):
            first = await board.begin(ctx, sequence)
            assert await board.ask(ctx, Request(Kind.OPEN, sequence, SESSION)) == first
            for kind, length, payload in (
                (Kind.READ_REGISTER, 4, b""),
                (Kind.WRITE_REGISTER, 4, b"wxyz"),
                (Kind.WRITE_MEMORY, 12, b"twelve bytes"),
                (Kind.READ_MEMORY, 12, b""),
                (Kind.READ_REGISTER, 4, b""),
                (Kind.STATUS, 0, b""),
            ):
                counts = len(board.registers.reads), len(board.registers.writes)
                address = 0 if kind == Kind.STATUS else 0x40
                request = board.request(kind, address, length, payload)
                first = await board.ask(ctx, request)
                assert first.status == Status.OK
                for interrupt in (1, 0, 1):
                    ctx.set(board.dut.interrupt, interrupt)
                    again = await board.ask(ctx, request)
                    assert again.flags == FLAG_MEMORY_READY | interrupt * FLAG_INTERRUPT
                    assert Response(**{**vars(again), "flags": 0}) == Response(**{**vars(first), "flags": 0})
                ctx.set(board.dut.interrupt, 0)
                reads, writes = kind == Kind.READ_REGISTER, kind == Kind.WRITE_REGISTER
                assert (len(board.registers.reads), len(board.registers.writes)) == (counts[0] + reads, counts[1] + writes)

    board.run(testbench)


def test_out_of_sequence():
    board = Board()

    async def testbench(ctx):
        await board.begin(ctx)
        await board.do(ctx, Kind.WRITE_REGISTER, 0, payload=b"abcd")
        last = board.sequence
        wrong = [
            *(Request(Kind.WRITE_REGISTER, (last + step) % 256, SESSION, 0, 4, b"abcd") for step in (-1, 2, 128)),
            # The last number belongs to another kind.
            Request(Kind.READ_REGISTER, last, SESSION, 0, 4),
            Request(Kind.WRITE_MEMORY, last, SESSION, 0, 4, b"abcd"),
        ]
        for request in wrong:
            response = await board.ask(ctx, request)
            assert (response.status, response.payload) == (Status.OUT_OF_SEQUENCE, b"")
        assert board.registers.writes == [(0, int.from_bytes(b"abcd", "little"))]
        assert board.registers.reads == board.words.writes == []
        await board.do(ctx, Kind.READ_REGISTER, 0, 4)

    board.run(testbench)


def test_reset(seed: int):
    """A reset at any time ends the session, also in the middle of a frame, an access, or a response."""
    board, chance = Board(seed=seed, stall=0.5), random.Random(seed)

    async def testbench(ctx):
        request = Request(Kind.READ_MEMORY, 1, SESSION, 0, 64)
        for _ in range(6):
            await board.begin(ctx)
            frame = encode(request.pack())
            cut = chance.choice((chance.randrange(len(frame)), len(frame)))
            await board.send(ctx, frame[:cut])
            await ctx.tick().repeat(chance.randrange(1, 900))
            await board.restart(ctx)
            assert not ctx.get(board.dut.open)
            assert (await board.ask(ctx, request)).status == Status.NO_SESSION

    board.run(testbench)


def damaged(frame: bytes, chance: random.Random) -> bytes:
    """`frame` with one thing wrong, which is not its first or its last END."""
    place = chance.randrange(1, len(frame) - 1)
    match chance.randrange(7):
        case 0:
            return frame[:place] + bytes([frame[place] ^ 1 << chance.randrange(8)]) + frame[place + 1 :]
        case 1:
            return frame[:place] + frame[place + 1 :]
        case 2:
            return frame[: place + 1] + frame[place:]
        case 3:
            return frame[:place] + chance.randbytes(1) + frame[place:]
        case 4:
            return frame[:place]
        case 5:
            return frame[:place] + bytes([ESCAPE]) + frame[place:]
        case _:
            return frame[:place] + bytes([END]) + frame[place:]


def test_damage(seed: int):
    """A damaged frame is dropped, and the next one is not."""
    board, chance = Board(seed=seed), random.Random(seed)

    async def testbench(ctx):
        await board.begin(ctx)
        for _ in range(25):
            payload = bytes(
                chance.choice((END, ESCAPE, 0, 255, chance.randrange(256))) for _ in range(4 * chance.randrange(1, 5))
            )
            request = board.request(Kind.WRITE_MEMORY, 4 * chance.randrange(1000), payload=payload)
            frame = encode(request.pack())
            bad = damaged(frame, chance)
            whole = [decode(part) for part in bad.split(bytes([END]))]
            assert not any(part and unpack_request(part) for part in whole)
            board.words.writes.clear()
            await board.send(ctx, bad)
            await board.silence(ctx, 3)
            assert not board.words.writes
            assert (await board.ask(ctx, request)).status == Status.OK
            assert board.words.writes == [*range(request.address, request.address + len(payload), 4)]

    board.run(testbench)


def test_frames_that_are_none():
    board = Board()

    async def testbench(ctx):
        await board.begin(ctx)
        good = board.request(Kind.WRITE_REGISTER, 0, payload=b"good")
        body = good.pack()
        nonsense = [
            b"",
            b"\0",
            # A frame of which nothing but its check is right.
            Request(0, 0, 0).pack()[-4:],
            body[:-4],
            body[:-5] + body[-4:],
            # The last two bytes of the header are not 0.
            Request(Kind.WRITE_REGISTER, 1, SESSION, 0, 4, b"good").pack()[:10] + b"\1\0" + body[12:],
            # Payloads that are not as long as the header says.
            Request(Kind.WRITE_REGISTER, 1, SESSION, 0, 4, b"goodgood").pack(),
            Request(Kind.WRITE_MEMORY, 1, SESSION, 0, 8, b"good").pack(),
            # Longer than the longest: by a byte, by a word, and by more than a counter holds.
            Request(Kind.WRITE_MEMORY, 1, SESSION, 0, MAX_PAYLOAD + 1, bytes(MAX_PAYLOAD + 1)).pack(),
            Request(Kind.WRITE_MEMORY, 1, SESSION, 0, MAX_PAYLOAD + 4, bytes(MAX_PAYLOAD + 4)).pack(),
            body + bytes(MAX_FRAME + 1100),
        ]
        await board.send(ctx, bytes([END, END, END]))
        for frame in nonsense:
            assert unpack_request(frame) is None or len(frame) > MAX_FRAME
            await board.send(ctx, encode(frame))
            await board.silence(ctx)
        # After a response a frame must begin with END.
        await board.send(ctx, encode(Request(Kind.STATUS, 0, SESSION + 1).pack()))
        assert (await board.response(ctx)).status == Status.NO_SESSION
        await board.send(ctx, encode(body)[1:])
        await board.silence(ctx)
        # Escapes that stand for nothing, or have nothing behind them.
        packed = encode(body)
        for part in (packed[:-1] + bytes([ESCAPE, END]), packed[:-1] + bytes([ESCAPE, ESCAPE, END])):
            await board.send(ctx, part)
            await board.silence(ctx)
        assert not board.registers.writes
        assert not board.words.writes
        assert (await board.ask(ctx, good)).status == Status.OK

    board.run(testbench)


@pytest.mark.parametrize("clock_hz", [0, -1, 1 << 32, 1e8])
def test_refuses_clock(clock_hz):
    with pytest.raises(
        ValueError, match=re.escape(f"clock_hz must be a positive whole number below 2**32, not {clock_hz!r}") + "$"
    ):
        LinkEndpoint(clock_hz, 4)


@pytest.mark.parametrize("memory_bytes", [0, -4, 6, 1 << 32, 4.0])
def test_refuses_memory(memory_bytes):
    with pytest.raises(
        ValueError, match=re.escape(f"memory_bytes must be a positive multiple of 4 below 2**32, not {memory_bytes!r}") + "$"
    ):
        LinkEndpoint(100, memory_bytes)


@pytest.mark.parametrize("cycles", [0, -1, 2.0, True])
def test_refuses_watchdog(cycles):
    with pytest.raises(ValueError, match=re.escape(f"watchdog_cycles must be a positive whole number, not {cycles!r}") + "$"):
        LinkEndpoint(100, 4, watchdog_cycles=cycles)
