"""The serial transport on a board that is a pseudo-terminal."""

import itertools
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tailrace.golden.device import GoldenDevice
from tailrace.sim.serial_board import SerialBoard
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ConfigError, DeviceClosed, DeviceTimeout, LinkError, MissingPackage, TailraceError
from tailrace.spec.registers import offset
from tailrace.spec.transport import Transport
from tailrace.transports.serial import SerialTransport

pytest.importorskip("serial")

CONFIG = parse_config("tiny")
MEMORY = 1 << 16


class SlowDevice(GoldenDevice):
    """A golden device whose runs last until `finish` is set, and whose counter of write beats can be set."""

    def __init__(self) -> None:
        super().__init__(CONFIG, MEMORY)
        self.finish = threading.Event()
        self.beats = 0

    def read_register(self, place: int) -> int:
        return self.beats if place == offset("WRITE_BEATS_LO") else super().read_register(place)

    def write_register(self, place: int, value: int) -> None:
        if place == offset("AP_CTRL"):
            self.finish.wait()
        super().write_register(place, value)


@pytest.fixture
def device() -> Iterator[SlowDevice]:
    device = SlowDevice()
    yield device
    device.finish.set()


@pytest.fixture
def board(device: SlowDevice) -> Iterator[SerialBoard]:
    with SerialBoard(lambda: device) as board:
        yield board


@pytest.fixture
def transport(board: SerialBoard) -> Iterator[SerialTransport]:
    with SerialTransport(board.port) as transport:
        yield transport


def test_it_is_a_transport(board: SerialBoard, transport: SerialTransport) -> None:
    assert isinstance(transport, Transport)
    assert transport.name == f"serial:{board.port}"
    assert transport.memory_size == MEMORY
    assert not transport.simulated
    assert transport.link.clock == 50_000_000


def test_any_address_and_length(transport: SerialTransport, device: SlowDevice, rng: np.random.Generator) -> None:
    expected = bytearray(rng.bytes(256))
    transport.write(0, bytes(expected))
    for start in range(9):
        for length in range(12):
            data = rng.bytes(length)
            transport.write(start, data)
            expected[start : start + length] = data
            assert device.read(0, 256) == expected
            assert transport.read(start, length) == data
    transport.write(17, memoryview(np.arange(3, dtype="<u4")).cast("B"))
    transport.write(MEMORY - 1, b"x")
    assert transport.read(MEMORY - 3, 3) == b"\0\0x"
    assert transport.read(MEMORY, 0) == b""
    # Of what is larger than a frame, each byte.
    data = rng.bytes(5001)
    transport.write(1023, memoryview(data))
    assert transport.read(1023, 5001) == data
    assert device.read(1023, 5001) == data


def test_arrays_of_other_types(transport: SerialTransport) -> None:
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    transport.write(64, array.data)
    assert transport.read(64, 24) == array.tobytes()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda t: t.read(MEMORY - 1, 2), "can't read 2 bytes at 0xffff: the device's memory has 65536 bytes, from 0 on"),
        (lambda t: t.read(-4, 4), "can't read 4 bytes at -0x4: the device's memory has 65536 bytes, from 0 on"),
        (lambda t: t.write(MEMORY, b"x"), "can't write 1 bytes at 0x10000: the device's memory has 65536 bytes, from 0 on"),
        (lambda t: t.write_register(0x10, 1 << 32), "a register holds 0 to 0xffffffff, not 0x100000000"),
        (lambda t: t.write_register(0x10, -1), "a register holds 0 to 0xffffffff, not -0x1"),
    ],
)
def test_what_does_not_exist(transport: SerialTransport, call: object, text: str) -> None:
    sent = transport.link.counters.requests
    with pytest.raises(TailraceError, match=f"^{re.escape(text)}$"):
        call(transport)  # type: ignore[operator]
    assert transport.link.counters.requests == sent


def test_registers(transport: SerialTransport) -> None:
    assert transport.read_register(offset("MAGIC")) == 0x43524C54
    transport.write_register(offset("QUEUE_LENGTH"), 0xFFFF_FFFF)
    assert transport.read_register(offset("QUEUE_LENGTH")) == 0xFFFF_FFFF
    sent = transport.link.counters.requests
    # WATCHDOG_CYCLES and ARGUMENT_0 come behind it.
    assert transport.read_registers(offset("QUEUE_LENGTH"), 3) == [0xFFFF_FFFF, 1 << 20, 0]
    assert transport.link.counters.requests == sent + 1


def start(transport: SerialTransport) -> None:
    for name in ("GIE", "IER", "AP_CTRL"):
        transport.write_register(offset(name), 1)


def test_wait_returns_with_the_interrupt(transport: SerialTransport, device: SlowDevice) -> None:
    start(transport)
    assert transport.read_register(offset("AP_CTRL")) == 1
    threading.Timer(0.1, device.finish.set).start()
    began = time.monotonic()
    transport.wait(10.0)
    assert 0.05 < time.monotonic() - began < 5
    # Waiting has read nothing that reading clears.
    assert transport.read_register(offset("AP_CTRL")) == 0b1110
    assert transport.read_register(offset("AP_CTRL")) == 0b0100


def test_wait_gives_up(transport: SerialTransport) -> None:
    start(transport)
    began = time.monotonic()
    text = (
        f"no interrupt and no transfer on the memory bus for 0.1 s on {transport.name}: start the device and enable its interrupt"
        " before waiting; if it was started, reset the board"
    )
    with pytest.raises(DeviceTimeout, match=f"^{re.escape(text)}$"):
        transport.wait(0.1)
    assert 0.1 <= time.monotonic() - began < 5


def test_wait_goes_on_while_there_is_progress(transport: SerialTransport, device: SlowDevice) -> None:
    start(transport)

    def work() -> None:
        for _ in range(20):
            device.beats += 1
            time.sleep(0.05)
        device.finish.set()

    threading.Thread(target=work).start()
    transport.wait(0.4)
    assert device.beats == 20


def test_a_port_that_does_not_exist(tmp_path: Path) -> None:
    port = str(tmp_path / "ttyUSB0")
    with pytest.raises(
        LinkError,
        match=f"^the serial port {port} does not exist: check the cable, and list the ports with: tailrace devices$",
    ):
        SerialTransport(port)


def test_what_is_no_port(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LinkError, match=f"^the serial port {file} can't be opened: .*Inappropriate ioctl"):
        SerialTransport(str(file))


def test_a_busy_port(board: SerialBoard, transport: SerialTransport) -> None:
    with pytest.raises(LinkError, match=f"^the serial port {board.port} is busy: another program uses it; close that first$"):
        SerialTransport(board.port)
    transport.read_register(0)
    transport.close()
    with SerialTransport(board.port) as second:
        second.read_register(0)


def test_a_port_that_is_not_ours(board: SerialBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("serial.serialposix.os.open", refuse)
    with pytest.raises(
        LinkError, match=rf"^the serial port {board.port} may not be used: add yourself to the group that owns it "
    ):
        SerialTransport(board.port)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"baud": 0}, "baud must be a positive number of bits per second, not 0"),
        ({"patience": 0.0}, "patience must be a positive number of seconds, not 0"),
    ],
)
def test_parameters(options: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text}$"):
        SerialTransport("/dev/ttyUSB0", **options)  # type: ignore[arg-type]


def test_without_pyserial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(MissingPackage, match="^the Python package pyserial is needed for serial ports: "):
        SerialTransport("/dev/ttyUSB0")


def test_closing_twice_is_harmless(board: SerialBoard, transport: SerialTransport) -> None:
    transport.close()
    transport.close()
    with pytest.raises(DeviceClosed, match="^the device is closed: open it again$"):
        transport.read(0, 4)


def test_threads_take_turns_and_closing_waits_for_them(transport: SerialTransport) -> None:
    ends: list[type[BaseException]] = []
    started = threading.Barrier(3)

    def work(place: int) -> None:
        started.wait(20)
        try:
            for value in itertools.count():
                data = bytes([value % 256]) * 256
                transport.write(place, data)
                assert transport.read(place, 256) == data
        except BaseException as error:
            ends.append(type(error))

    threads = [threading.Thread(target=work, args=(place,)) for place in (0, 256)]
    for thread in threads:
        thread.start()
    started.wait(20)
    time.sleep(0.2)
    transport.close()
    for thread in threads:
        thread.join(20)
    assert ends == [DeviceClosed] * 2


def test_a_port_is_released_when_no_board_answers(board: SerialBoard) -> None:
    answer, board.on_request = board._receive, None
    board._receive = lambda data: None  # type: ignore[method-assign]
    with pytest.raises(LinkError, match="^no board answers on "):
        SerialTransport(board.port, patience=0.001)
    board._receive = answer  # type: ignore[method-assign]
    SerialTransport(board.port).close()
