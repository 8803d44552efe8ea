"""The board's side of the link, as software: the rules that the gateware keeps as well."""

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tailrace.golden.device import GoldenDevice
from tailrace.sim.serial_board import FaultRates, FaultyLine, LinkResponder, SerialBoard, main
from tailrace.spec.config import parse_config
from tailrace.spec.link import (
    END,
    IDENTITY,
    MAX_PAYLOAD,
    RESPONSE,
    VERSION,
    Kind,
    Request,
    Response,
    Status,
    decode,
    encode,
    unpack_response,
)
from tailrace.spec.registers import MAGIC, offset

CONFIG = parse_config("tiny")
MEMORY = 1 << 12
SESSION = 0x1234
ONE = (1).to_bytes(4, "little")
ISR = offset("ISR")


class Device(GoldenDevice):
    """Runs last until `finish` is set, if `slow`; what is accessed is noted."""

    slow = False

    def __init__(self) -> None:
        super().__init__(CONFIG, MEMORY)
        self.finish = threading.Event()
        self.accesses: list[tuple[str, int]] = []

    def read(self, address: int, size: int) -> bytes:
        self.accesses.append(("read", address))
        return super().read(address, size)

    def write(self, address: int, data: bytes | memoryview) -> None:
        self.accesses.append(("write", address))
        super().write(address, data)

    def write_register(self, place: int, value: int) -> None:
        self.accesses.append(("write_register", place))
        if self.slow and place == offset("AP_CTRL"):
            self.finish.wait()
        super().write_register(place, value)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.finish.set()


@pytest.fixture
def board(device: Device) -> LinkResponder:
    return LinkResponder(device, clock=25_000_000)


def ask(board: LinkResponder, kind: int, sequence: int, *rest: Any, session: int = SESSION) -> Response:
    return board.answer(Request(kind, sequence % 256, session, *rest))


def start(board: LinkResponder, sequence: int = 0) -> Response:
    return ask(board, Kind.OPEN, sequence)


def test_it_says_what_it_is(board: LinkResponder) -> None:
    identity = IDENTITY.pack(VERSION, MAX_PAYLOAD, 25_000_000, MEMORY)
    assert start(board, 7) == Response(Kind.OPEN | RESPONSE, 7, SESSION, Status.OK, 2, identity)
    # A session may be opened again, as often as it likes.
    assert start(board, 7).payload == identity
    assert ask(board, Kind.STATUS, 8).status == Status.OK


@pytest.mark.parametrize("kind", [*(kind for kind in Kind if kind is not Kind.OPEN), 0, 99])
def test_nothing_goes_without_a_session(board: LinkResponder, device: Device, kind: int) -> None:
    request = (kind, 1, 0, 4, ONE)
    assert ask(board, *request).status == Status.NO_SESSION
    assert ask(board, *request, session=0).status == Status.NO_SESSION
    start(board)
    assert ask(board, *request, session=SESSION + 1).status == Status.NO_SESSION
    assert not device.accesses


def test_the_last_who_opens_it_has_it(board: LinkResponder) -> None:
    start(board)
    assert ask(board, Kind.OPEN, 3, session=9).status == Status.OK
    assert ask(board, Kind.STATUS, 1).status == Status.NO_SESSION
    assert ask(board, Kind.STATUS, 4, session=9).status == Status.OK


def test_numbers_follow_each_other(board: LinkResponder, device: Device) -> None:
    start(board, 250)
    for sequence in range(251, 600):
        for other in (-2, 1, 2, 127, 128):
            assert ask(board, Kind.WRITE_REGISTER, sequence + other, ISR, 4, ONE).status == Status.OUT_OF_SEQUENCE
        assert ask(board, Kind.STATUS, sequence).status == Status.OK
        assert ask(board, Kind.STATUS, sequence).status == Status.OK
    assert not device.accesses


def test_the_same_number_for_something_else(board: LinkResponder, device: Device) -> None:
    start(board)
    ask(board, Kind.STATUS, 1)
    assert ask(board, Kind.WRITE_REGISTER, 1, ISR, 4, ONE).status == Status.OUT_OF_SEQUENCE
    assert not device.accesses


def test_a_register_is_accessed_once(board: LinkResponder, device: Device) -> None:
    start(board)
    answers = [ask(board, Kind.WRITE_REGISTER, 1, ISR, 4, ONE) for _ in range(3)]
    assert answers == [Response(Kind.WRITE_REGISTER | RESPONSE, 1, SESSION, Status.OK, 2)] * 3
    assert device.accesses == [("write_register", ISR)]
    device._done = 2
    answers = [ask(board, Kind.READ_REGISTER, 2, offset("AP_CTRL"), 4) for _ in range(3)]
    assert [a.payload[0] for a in answers] == [0b0110] * 3
    assert ask(board, Kind.READ_REGISTER, 3, offset("AP_CTRL"), 4).payload[0] == 0b0100


def test_registers_in_a_row(board: LinkResponder, device: Device) -> None:
    start(board)
    device.write_register(offset("LIMIT_LO"), 7)
    request = (Kind.READ_REGISTERS, 1, offset("LIMIT_LO"), 12)
    words = [7, 0, MAGIC]
    assert ask(board, *request).payload == b"".join(word.to_bytes(4, "little") for word in words)
    device.write_register(offset("LIMIT_LO"), 8)
    # They are read again.
    assert ask(board, *request).payload[:4] == (8).to_bytes(4, "little")
    assert ask(board, Kind.READ_REGISTERS, 2, 0x1000 - MAX_PAYLOAD, MAX_PAYLOAD).payload == bytes(MAX_PAYLOAD)
    # Between registers there are zeros.
    between = ask(board, Kind.READ_REGISTERS, 3, offset("VECTOR_WIDTH"), 16).payload
    assert [between[n : n + 4] for n in range(0, 16, 4)] == [(1).to_bytes(4, "little"), *[bytes(4)] * 3]


def test_memory(board: LinkResponder, device: Device) -> None:
    start(board)
    for _ in range(2):
        assert ask(board, Kind.WRITE_MEMORY, 1, 8, 4, b"abcd").status == Status.OK
        device.write(8, b"dcba")
    assert ask(board, Kind.READ_MEMORY, 2, 4, 8).payload == b"\0\0\0\0dcba"
    device.write(8, b"efgh")
    # Memory is accessed again.
    assert ask(board, Kind.READ_MEMORY, 2, 4, 8).payload == b"\0\0\0\0efgh"


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        (0, ()),
        (8, ()),
        (0x81, ()),
        (Kind.STATUS, (4,)),
        (Kind.STATUS, (0, 4)),
        (Kind.READ_MEMORY, (0, 0)),
        (Kind.READ_MEMORY, (2, 4)),
        (Kind.READ_MEMORY, (0, 6)),
        (Kind.READ_MEMORY, (0, MAX_PAYLOAD + 4)),
        (Kind.READ_MEMORY, (MEMORY - 4, 8)),
        (Kind.READ_MEMORY, (0xFFFF_FFFC, 8)),
        (Kind.READ_MEMORY, (0, 4, ONE)),
        (Kind.WRITE_MEMORY, (0, 4)),
        (Kind.WRITE_MEMORY, (MEMORY, 4, ONE)),
        (Kind.READ_REGISTER, (0, 8)),
        (Kind.READ_REGISTER, (2, 4)),
        (Kind.READ_REGISTER, (0x1000, 4)),
        (Kind.READ_REGISTER, (0, 4, ONE)),
        (Kind.WRITE_REGISTER, (0, 4)),
        (Kind.WRITE_REGISTER, (0, 8, ONE * 2)),
        (Kind.READ_REGISTERS, (0x40, 0)),
        (Kind.READ_REGISTERS, (0x42, 4)),
        (Kind.READ_REGISTERS, (0x40, 6)),
        (Kind.READ_REGISTERS, (0x40, MAX_PAYLOAD + 4)),
        (Kind.READ_REGISTERS, (0xFFC, 8)),
        (Kind.READ_REGISTERS, (0x1000, 4)),
        (Kind.READ_REGISTERS, (0xFFFF_FFFC, 8)),
        (Kind.READ_REGISTERS, (0x40, 4, ONE)),
    ],
)
def test_bad_requests(board: LinkResponder, device: Device, kind: int, rest: tuple[Any, ...]) -> None:
    start(board)
    for _ in range(2):
        assert ask(board, kind, 1, *rest) == Response(kind | RESPONSE, 1, SESSION, Status.BAD_REQUEST, 2)
    assert not device.accesses
    # It had its number.
    assert ask(board, Kind.STATUS, 2).status == Status.OK


def test_a_session_has_a_name(board: LinkResponder) -> None:
    assert ask(board, Kind.OPEN, 0, session=0).status == Status.BAD_REQUEST
    assert ask(board, Kind.OPEN, 0, 0, 4).status == Status.BAD_REQUEST
    assert ask(board, Kind.STATUS, 1).status == Status.NO_SESSION


def test_memory_that_is_not_ready(device: Device) -> None:
    board = LinkResponder(device, clock=1, memory_ready_at=time.monotonic() + 0.1)
    assert start(board).flags == 0
    for _ in range(2):
        assert ask(board, Kind.WRITE_MEMORY, 1, 0, 4, ONE) == Response(
            Kind.WRITE_MEMORY | RESPONSE, 1, SESSION, Status.NOT_READY, 0
        )
    assert ask(board, Kind.READ_REGISTER, 2, offset("MAGIC"), 4).payload == b"TLRC"
    time.sleep(0.11)
    assert ask(board, Kind.WRITE_MEMORY, 3, 0, 4, ONE).status == Status.OK
    assert device.accesses == [("write", 0)]


def test_the_link_answers_while_the_device_runs(board: LinkResponder, device: Device) -> None:
    device.slow = True
    start(board)
    ask(board, Kind.WRITE_REGISTER, 1, offset("GIE"), 4, ONE)
    ask(board, Kind.WRITE_REGISTER, 2, offset("IER"), 4, ONE)
    assert ask(board, Kind.WRITE_REGISTER, 3, offset("AP_CTRL"), 4, ONE).flags == 2
    assert ask(board, Kind.READ_REGISTER, 4, offset("AP_CTRL"), 4).payload == ONE
    # A doorbell while it runs does nothing.
    assert ask(board, Kind.WRITE_REGISTER, 5, offset("AP_CTRL"), 4, ONE).status == Status.OK
    assert ask(board, Kind.WRITE_MEMORY, 6, 0, 4, ONE).status == Status.OK
    device.finish.set()
    for _ in range(1000):
        if board.interrupt:
            break
        time.sleep(0.002)
    assert ask(board, Kind.STATUS, 7).flags == 3
    assert ask(board, Kind.READ_REGISTER, 8, offset("AP_CTRL"), 4).payload[0] == 0b1110
    assert ask(board, Kind.WRITE_REGISTER, 9, ISR, 4, ONE).flags == 2
    assert [place for what, place in device.accesses if what == "write_register"].count(offset("AP_CTRL")) == 1


def test_a_line_without_faults_changes_nothing(rng: np.random.Generator) -> None:
    data = rng.bytes(10_000)
    assert FaultyLine(FaultRates(), 1).carry(data) == data


@pytest.mark.parametrize("kind", ["lost", "flipped", "doubled", "inserted"])
def test_faults_are_as_many_as_asked_for(kind: str) -> None:
    data = bytes(100_000)
    arrived = FaultyLine(FaultRates(**{kind: 0.01}), 5).carry(data)
    grown = {"lost": -1, "flipped": 0, "doubled": 1, "inserted": 1}[kind]
    assert abs(len(arrived) - len(data) - 1000 * grown) < 150
    others = len(arrived) - arrived.count(0)
    # One inserted byte in 256 is a zero as well.
    assert abs(others - (1000 if kind in ("flipped", "inserted") else 0)) < (150 if kind in ("flipped", "inserted") else 1)
    if kind == "flipped":
        assert all(byte.bit_count() <= 1 for byte in arrived)


def test_faults_do_not_depend_on_how_bytes_come(rng: np.random.Generator) -> None:
    data = rng.bytes(5000)
    rates = FaultRates(lost=0.01, doubled=0.01)
    pieces = FaultyLine(rates, 3)
    assert FaultyLine(rates, 3).carry(data) == b"".join(pieces.carry(data[i : i + 7]) for i in range(0, 5000, 7))


def test_kinds_of_faults_share_a_rate() -> None:
    assert FaultRates.all_kinds(0.04) == FaultRates(0.01, 0.01, 0.01, 0.01)


def exchange(file: int, data: bytes, responses: int = 1) -> list[Response | None]:
    """Responses to bytes on the line."""
    os.write(file, data)
    received = b""
    while received.count(END) < 2 * responses:
        received += os.read(file, 4096)
    frames = [decode(stuffed) for stuffed in received.split(bytes([END])) if stuffed]
    return [unpack_response(frame) for frame in frames if frame is not None]


@pytest.fixture
def port(device: Device) -> Iterator[tuple[SerialBoard, int]]:
    with SerialBoard(lambda: device) as board:
        file = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
        yield board, file
        os.close(file)


def test_frames_on_the_line(port: tuple[SerialBoard, int]) -> None:
    """What is damaged is not answered, and what follows it is."""
    begin, status = encode(Request(Kind.OPEN, 0, SESSION).pack()), encode(Request(Kind.STATUS, 1, SESSION).pack())
    for noise in (b"", b"\xc0\xc0", b"boot\r\n", status[:9], b"\xdb\x00" + bytes(3000), status[:-2] + b"\x00\xc0"):
        answers = exchange(port[1], noise + begin + noise + status, 2)
        assert [a and (a.kind, a.status) for a in answers] == [(0x81, Status.OK), (0x82, Status.OK)], noise


def test_a_reset_forgets(port: tuple[SerialBoard, int]) -> None:
    board, file = port
    exchange(file, encode(Request(Kind.OPEN, 0, SESSION).pack()))
    before = board.responder
    board.reset()
    assert board.responder is not before
    (answer,) = exchange(file, encode(Request(Kind.STATUS, 1, SESSION).pack()))
    assert answer is not None
    assert answer.status == Status.NO_SESSION


def test_an_unplugged_port_is_gone(port: tuple[SerialBoard, int]) -> None:
    board, file = port
    board.unplug()
    assert not os.path.exists(board.port)
    with pytest.raises(OSError):
        os.write(file, b"x")
    board.close()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("kv260", "a board has one memory, and kv260 has 4 memory ports"),
        ("tinier", "unknown configuration 'tinier': choose one of tiny, base, large, wide, arty, kv260, u280-hbm"),
    ],
)
def test_the_command_says_what_is_wrong(config: str, message: str) -> None:
    result = CliRunner().invoke(main, ["--config", config])
    assert (result.exit_code, result.output) == (1, f"Error: {message}\n")
