"""Sessions over a line whose losses are written down, one frame after the other."""

import re
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tailrace.sim.devices import open_device
from tailrace.sim.serial_board import LinkResponder
from tailrace.spec.config import parse_config
from tailrace.spec.errors import DeviceClosed, LinkError
from tailrace.spec.link import IDENTITY, MAX_PAYLOAD, VERSION, Kind, Request, Response, Status, decode, encode, unpack_request
from tailrace.spec.registers import offset
from tailrace.transports.link import ATTEMPTS, ATTEMPTS_TO_OPEN, LinkSession

CONFIG = parse_config("tiny")
MEMORY = 1 << 16
PLACE = "serial port /dev/ttyUSB0"
PATIENCE = 0.001
LOST_TRUST = "its memory can no longer be trusted; open it again and load the model again"
#: GIE holds a bit; ISR turns over what is written: two writes are not one.
GIE, ISR = offset("GIE"), offset("ISR")

#: What becomes of the answer to a frame: the bytes that arrive.
Answers = Callable[[Request, Response], list[bytes]]


def whole(request: Request, response: Response) -> list[bytes]:
    return [encode(response.pack())]


class Line:
    """A channel to a board's side of the link, in this thread.

    `requests` are the bytes of each frame that reach the board, by default all; `answers` what arrives of each response.
    """

    def __init__(self) -> None:
        self.device = open_device("golden", CONFIG, MEMORY)
        self.responder = LinkResponder(self.device, clock=50_000_000)
        self.damage: Callable[[bytes], bytes] = lambda frame: frame
        self.answers: Answers = whole
        self.carried_out: list[Request] = []
        self.arriving: list[bytes] = []
        self.closed = 0

    def write(self, data: bytes) -> None:
        for stuffed in filter(None, self.damage(data).split(b"\xc0")):
            frame = decode(stuffed)
            request = None if frame is None else unpack_request(frame)
            if request is not None:
                self.carried_out.append(request)
                self.arriving += self.answers(request, self.responder.answer(request))

    def read(self, timeout: float) -> bytes:
        if self.arriving:
            return self.arriving.pop(0)
        time.sleep(timeout)
        return b""

    def close(self) -> None:
        self.closed += 1


def opened(line: Line, **options: float) -> LinkSession:
    return LinkSession(line, PLACE, baud=100_000_000, **{"patience": PATIENCE, **options})


def nothing(request: Request, response: Response) -> list[bytes]:
    return []


def first(action: Answers, then: Answers = whole) -> Answers:
    """What `action` does to the first answer."""
    left = [action]
    return lambda request, response: (left.pop() if left else then)(request, response)


def fails(text: str) -> "pytest.RaisesExc[LinkError]":
    return pytest.raises(LinkError, match=f"^{re.escape(text)}$")


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def session(line: Line) -> LinkSession:
    session = opened(line)
    line.carried_out.clear()
    return session


def test_a_board_says_what_it_is(session: LinkSession) -> None:
    assert (session.clock, session.memory_size, session.max_payload) == (50_000_000, MEMORY, MAX_PAYLOAD)


def test_every_session_has_another_name() -> None:
    names = set()
    for _ in range(5):
        line = Line()
        opened(line)
        names.add(line.carried_out[0].session)
    assert len(names) > 1
    assert 0 not in names


DAMAGE: dict[str, Answers] = {
    "lost": nothing,
    "flipped": lambda request, response: [bytes(b ^ (i == 5) for i, b in enumerate(encode(response.pack())))],
    "cut off": lambda request, response: [encode(response.pack())[:-4]],
    "without its end": lambda request, response: [encode(response.pack())[:-1]],
    "an escape that means nothing": lambda request, response: [b"\xc0\xdb\x00\xc0"],
    "another session": lambda request, response: whole(request, replace(response, session=response.session ^ 1)),
    "another number": lambda request, response: whole(request, replace(response, sequence=response.sequence ^ 1)),
    "another kind": lambda request, response: whole(request, replace(response, kind=response.kind ^ 3)),
    "too short a payload": lambda request, response: whole(request, replace(response, payload=response.payload[:-4] + b"")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_response_that_does_not_arrive_is_asked_for_again(line: Line, session: LinkSession, damage: str) -> None:
    session.write_register(offset("IER"), 3)
    for name in ("QUEUE_LENGTH", "IER"):
        line.answers = first(DAMAGE[damage])
        assert session.read_register(offset(name)) == (3 if name == "IER" else 0)
    assert session.counters.retried == 2
    assert session.counters.requests == 4


def test_a_register_is_written_once(line: Line, session: LinkSession) -> None:
    """ISR turns over the bits that are written."""
    for retries in range(5):
        answers = [nothing] * retries + [whole]
        line.answers = lambda request, response, answers=answers: answers.pop(0)(request, response)  # type: ignore[misc]
        before = line.device.read_register(ISR)
        session.write_register(ISR, 1)
        assert line.device.read_register(ISR) == before ^ 1
        assert len(line.carried_out) == retries + 1
        assert len(set(line.carried_out)) == 1
        line.carried_out.clear()


def test_a_register_is_read_once(line: Line, session: LinkSession) -> None:
    """Reading AP_CTRL clears done."""
    session.write_register(offset("QUEUE_LENGTH"), 0)
    session.write_register(offset("AP_CTRL"), 1)
    while session.read_register(offset("AP_CTRL")) & 1:
        pass
    session.write_register(offset("AP_CTRL"), 1)
    time.sleep(0.05)
    line.answers = first(nothing)
    assert session.read_register(offset("AP_CTRL")) & 2
    assert not session.read_register(offset("AP_CTRL")) & 2


def test_requests_that_do_not_arrive_are_sent_again(line: Line, session: LinkSession) -> None:
    frames = []

    def lose(frame: bytes) -> bytes:
        frames.append(frame)
        return frame if len(frames) % 3 == 0 else frame[:-3]

    line.damage = lose
    session.write_register(ISR, 1)
    assert line.device.read_register(ISR) == 1
    assert frames == [frames[0]] * 3


def test_late_responses_are_not_taken_for_others(line: Line, session: LinkSession) -> None:
    """The answer to the first try comes after the second one's was taken."""
    late: list[bytes] = []

    def delay(request: Request, response: Response) -> list[bytes]:
        late.extend(whole(request, response))
        return []

    session.write_register(GIE, 1)
    line.answers = first(delay, lambda request, response: [*whole(request, response), *late])
    assert session.read_register(GIE) == 1
    line.answers = whole
    assert session.read_register(offset("MAGIC")) == 0x43524C54
    assert session.counters.stale == 1


def test_numbers_go_round(line: Line, session: LinkSession) -> None:
    for number in range(600):
        session.write_register(offset("QUEUE_LENGTH"), number)
    assert session.read_register(offset("QUEUE_LENGTH")) == 599
    assert {r.sequence for r in line.carried_out} == set(range(256))


def test_memory(line: Line, session: LinkSession, rng: np.random.Generator) -> None:
    data = rng.bytes(5000)
    session.write_memory(0x100, memoryview(data))
    assert line.device.read(0x100, 5000) == data
    assert session.read_memory(0x100, 5000) == data
    assert [r.length for r in line.carried_out] == [1024, 1024, 1024, 1024, 904] * 2


def test_registers_in_a_row(line: Line, session: LinkSession) -> None:
    session.write_register(offset("QUEUE_LENGTH"), 0x1234_5678)
    session.write_register(offset("LIMIT_HI"), 0x9ABC_DEF0)
    line.carried_out.clear()
    row = {"QUEUE_LENGTH": 0x1234_5678, "WATCHDOG_CYCLES": 1 << 20, "LIMIT_HI": 0x9ABC_DEF0, "MAGIC": 0x43524C54}
    begin, end = offset("QUEUE_LENGTH"), offset("MAGIC")
    expected = [0] * ((end - begin) // 4 + 1)
    for name, value in row.items():
        expected[(offset(name) - begin) // 4] = value
    for name, damage in DAMAGE.items():
        line.answers = first(damage)
        assert session.read_registers(begin, len(expected)) == expected, name
        assert line.carried_out == [line.carried_out[0]] * 2
        line.carried_out.clear()
    line.answers = whole
    # As many as there are, in as few requests as it takes.
    assert len(session.read_registers(0, 1024)) == 1024
    assert [r.length for r in line.carried_out] == [MAX_PAYLOAD] * 4


def test_payloads_are_those_that_the_board_takes(line: Line, rng: np.random.Generator) -> None:
    line.answers = first(
        lambda request, response: whole(request, replace(response, payload=IDENTITY.pack(VERSION, 66, 1, MEMORY))),
    )
    session, data = opened(line), rng.bytes(256)
    session.write_memory(0, memoryview(data))
    assert session.read_memory(0, 256) == data
    assert session.read_registers(offset("MAGIC"), 64)[0] == 0x43524C54
    assert max(r.length for r in line.carried_out) == 64


@pytest.mark.parametrize("carried_out", [False, True])
def test_long_frames_give_way_to_short_ones(
    line: Line, session: LinkSession, rng: np.random.Generator, carried_out: bool
) -> None:
    """Frames above 100 bytes never arrive, or their responses do not."""
    data = rng.bytes(4096)
    if carried_out:
        line.answers = lambda request, response: nothing(request, response) if request.length > 64 else whole(request, response)
    else:
        line.damage = lambda frame: frame if len(frame) <= 100 else frame[:-2]
    session.write_memory(0, memoryview(data))
    assert line.device.read(0, 4096) == data
    assert session.read_memory(0, 4096) == data
    session._piece = MAX_PAYLOAD
    assert session.read_registers(offset("MAGIC"), 64)[0] == 0x43524C54
    assert session.counters.resynchronised > 0


def test_frames_become_long_again(line: Line, session: LinkSession) -> None:
    line.damage = lambda frame: frame if len(frame) <= 60 else frame[:-2]
    session.write_memory(0, memoryview(bytes(256)))
    line.damage = lambda frame: frame
    line.carried_out.clear()
    session.write_memory(0, memoryview(bytes(1 << 15)))
    assert line.carried_out[-2].length == MAX_PAYLOAD


@pytest.mark.parametrize("moment", range(1, 5))
def test_an_interrupted_request_does_not_confuse_the_next(line: Line, session: LinkSession, moment: int) -> None:
    """Ctrl-C while a response is awaited: before or after the request arrived, and again while that is found out."""
    line.damage = lambda frame: frame if moment % 2 else frame[:-2]
    line.answers = nothing
    reads = line.read
    for _ in range(1 + moment // 2):

        def interrupt(timeout: float) -> bytes:
            raise KeyboardInterrupt

        line.read = interrupt  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            session.write_register(ISR, 1)
    line.read, line.answers, line.damage = reads, whole, lambda frame: frame  # type: ignore[method-assign]
    # Done at most once, and never later.
    state = line.device.read_register(ISR)
    assert state == (1 if moment % 2 else 0)
    assert session.read_register(ISR) == state
    session.write_register(ISR, 1)
    assert line.device.read_register(ISR) == state ^ 1


def test_a_reset_board_is_noticed(line: Line, session: LinkSession) -> None:
    line.responder = LinkResponder(line.device, clock=1)
    text = f"the board on {PLACE} was reset, or another program has opened it: {LOST_TRUST}"
    with fails(text):
        session.read_register(0)
    # It stays so.
    for call in (lambda: session.read_memory(0, 4), lambda: session.write_memory(0, memoryview(bytes(4))), session.status):
        with fails(text):
            call()
    assert len(line.carried_out) == 1


def test_another_program_is_noticed(line: Line, session: LinkSession) -> None:
    mine = line.carried_out
    opened(line)
    with fails(f"the board on {PLACE} was reset, or another program has opened it: {LOST_TRUST}"):
        session.write_register(ISR, 1)
    assert line.device.read_register(ISR) == 0
    assert mine[-1].kind == Kind.WRITE_REGISTER


def answered(status: int) -> Answers:
    return lambda request, response: whole(request, replace(response, status=status, payload=b""))


def test_a_lost_count_is_noticed(line: Line, session: LinkSession) -> None:
    line.answers = answered(Status.OUT_OF_SEQUENCE)
    text = (
        f"the board on {PLACE} has lost count of the requests: another program uses it as well, or its link is broken;"
        f" {LOST_TRUST}"
    )
    with fails(text):
        session.read_register(0)
    line.answers = whole
    with fails(text):
        session.read_register(0)


@pytest.mark.parametrize(("status", "name"), [(Status.BAD_REQUEST, "BAD_REQUEST"), (77, "77")])
def test_a_refusal_is_named(line: Line, session: LinkSession, status: int, name: str) -> None:
    line.answers = answered(status)
    with fails(
        f"the board on {PLACE} refused READ_REGISTER of 4 bytes at 0x40 ({name}): its bitstream was made for another program;"
        " build it again"
    ):
        session.read_register(0x40)
    line.answers = whole
    assert session.read_register(offset("MAGIC")) == 0x43524C54


def test_a_bus_error_is_named(line: Line, session: LinkSession) -> None:
    line.answers = answered(Status.BUS_ERROR)
    with fails(
        f"the bus of the board on {PLACE} answered WRITE_MEMORY of 8 bytes at 0x80 with an error: check that the address exists,"
        " and the memory's clock and reset"
    ):
        session.write_memory(0x80, memoryview(bytes(8)))
    line.answers = whole
    assert session.read_memory(0x80, 8) == bytes(8)


def test_memory_that_comes_up_late_is_waited_for(line: Line) -> None:
    line.responder = LinkResponder(line.device, clock=1, memory_ready_at=time.monotonic() + 0.1)
    session = opened(line)
    assert not session.status() & 2
    session.write_memory(0, memoryview(b"abcd"))
    assert session.status() & 2
    assert line.device.read(0, 4) == b"abcd"


def test_memory_that_does_not_come_up(line: Line) -> None:
    line.responder = LinkResponder(line.device, clock=1, memory_ready_at=float("inf"))
    session = opened(line, memory_patience=0.02)
    with fails(
        f"the memory of the board on {PLACE} does not come up: it is not initialised after 0.02 s. Reset the board; if that does"
        " not help, check that its bitstream was built for this board's memory"
    ):
        session.read_memory(0, 4)
    assert session.read_register(offset("MAGIC")) == 0x43524C54


@pytest.mark.parametrize("payload", [IDENTITY.pack(1, 1024, 1, 64), b"\x01\x00", b"\x01\x00" + bytes(98)])
def test_another_version_is_named(line: Line, payload: bytes) -> None:
    line.answers = lambda request, response: whole(request, replace(response, payload=payload))
    with fails(
        f"the board on {PLACE} speaks version 1 of the link, and this program version 2: build its bitstream again with this"
        " program, or install the program that it was built with"
    ):
        opened(line)


def test_a_board_that_takes_too_little(line: Line) -> None:
    line.answers = lambda request, response: whole(request, replace(response, payload=IDENTITY.pack(VERSION, 12, 1, 64)))
    with fails(f"the board on {PLACE} takes payloads of 12 bytes, and 16 is the least"):
        opened(line)


def test_a_board_that_refuses_to_be_opened(line: Line) -> None:
    line.answers = answered(Status.BAD_REQUEST)
    with fails(f"the board on {PLACE} refused to be opened (status 3): reset it and try again"):
        opened(line)


NO_BOARD = (
    f"no board answers on {PLACE} ({ATTEMPTS_TO_OPEN} tries): check that the board has power, that this is its port, that its bitstream"
    " is loaded, and that it was built for 100000000 baud."
)


def test_no_board(line: Line) -> None:
    line.damage = lambda frame: b""
    with fails(NO_BOARD):
        opened(line)


def test_another_baud_rate(line: Line) -> None:
    line.answers = lambda request, response: [b"\xf3\xc0\x18\x80"]
    with fails(f"{NO_BOARD} Something answers, but damaged: the baud rate is probably another."):
        opened(line)


def test_what_is_no_frame_is_forgotten(line: Line, session: LinkSession) -> None:
    line.arriving = [bytes(3000)] * 5
    assert session.read_register(offset("MAGIC")) == 0x43524C54
    assert len(session._received) <= 3000
    assert session.counters.damaged >= 5


def test_a_board_that_falls_silent(line: Line, session: LinkSession) -> None:
    line.answers = nothing
    text = f"the board on {PLACE} stopped answering ({ATTEMPTS} tries): check its cable and power; {LOST_TRUST}"
    for _ in range(2):
        with fails(text):
            session.write_memory(0, memoryview(bytes(2000)))
    line.answers = whole
    with fails(text):
        session.read_register(0)


@pytest.mark.parametrize("method", ["read", "write"])
def test_a_line_that_is_gone(line: Line, session: LinkSession, method: str) -> None:
    def gone(argument: object) -> bytes:
        raise OSError(5, "Input/output error")

    setattr(line, method, gone)
    for _ in range(2):
        with fails(f"the {PLACE} is gone: check its cable and the board's power; {LOST_TRUST}"):
            session.read_register(0)


def test_a_closed_line(line: Line, session: LinkSession) -> None:
    session.close()
    session.close()
    assert line.closed == 2
    with pytest.raises(DeviceClosed, match="^the device is closed: open it again$"):
        session.status()
