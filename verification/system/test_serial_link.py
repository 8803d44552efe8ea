"""A whole decode step over a serial line that damages bytes, is pulled, or leads to a board that was reset.

What arrives is exact, what has side effects happens once, and where that can't be kept there is an error and never a token.
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.golden.device import GoldenDevice
from tailrace.sim.serial_board import FaultRates, SerialBoard
from tailrace.spec.commands import encode
from tailrace.spec.config import parse_config
from tailrace.spec.errors import DeviceClosed, LinkError
from tailrace.spec.isa import Opcode
from tailrace.spec.link import Kind, Request
from tailrace.spec.registers import ERROR, offset
from tailrace.spec.transport import Transport
from tailrace.transports.serial import SerialTransport
from verification.unit.host.tiny_models import write_model

pytest.importorskip("serial")

CONFIG = parse_config("tiny")
MEMORY = 1 << 20
AP_CTRL, ISR = offset("AP_CTRL"), offset("ISR")
PROMPT, TOKENS = [3, 4, 5, 6], 4
#: The board answers at once, and a lost frame costs this many seconds.
PATIENCE = 0.005
UNTRUSTED = "its memory can no longer be trusted; open it again and load the model again"


def counts(place: int) -> bool:
    """Whether reading a register must happen once: not of those that `read_registers` reads, nor of what the board looks at."""
    return place < ERROR[0].offset and place not in (ISR, offset("GIE"))


class CountedDevice(GoldenDevice):
    """Counts register accesses; runs wait for `gate`."""

    def __init__(self) -> None:
        super().__init__(CONFIG, MEMORY)
        self.accesses: Counter[tuple[str, int]] = Counter()
        self.gate = threading.Event()
        self.gate.set()

    def read_register(self, place: int) -> int:
        if counts(place):
            self.accesses["read", place] += 1
        return super().read_register(place)

    def write_register(self, place: int, value: int) -> None:
        self.accesses["write", place] += 1
        if place == AP_CTRL:
            self.gate.wait()
        super().write_register(place, value)


class Asked:
    """A transport that counts what a driver asks it for."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.accesses: Counter[tuple[str, int]] = Counter()

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def read_register(self, place: int) -> int:
        if counts(place):
            self.accesses["read", place] += 1
        return self.inner.read_register(place)

    def write_register(self, place: int, value: int) -> None:
        self.accesses["write", place] += 1
        self.inner.write_register(place, value)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    return write_model(path, layers=1, hidden=32, heads=1, head_size=32, feed_forward=32)


def load(transport: Transport, model: Path) -> Decoder:
    return Decoder(Device(transport), import_model(open_model(model), 16), tokens_per_doorbell=TOKENS)


def decode(decoder: Decoder) -> tuple[list[int], np.ndarray]:
    """Tokens of a run of them, and the logits of one more step."""
    decoder.prefill(PROMPT[:-1])
    tokens = decoder.run(PROMPT[-1], TOKENS)
    return tokens, decoder.step(tokens[-1])  # type: ignore[return-value, arg-type]


@pytest.fixture(scope="module")
def expected(model: Path) -> tuple[list[int], np.ndarray]:
    return decode(load(GoldenDevice(CONFIG, MEMORY), model))


@pytest.fixture
def devices() -> Iterator[list[CountedDevice]]:
    """Every device that a board had, the last one last."""
    devices: list[CountedDevice] = []
    yield devices
    for device in devices:
        device.gate.set()


@pytest.fixture
def board(devices: list[CountedDevice], seed: int) -> Iterator[SerialBoard]:
    def make() -> CountedDevice:
        devices.append(CountedDevice())
        return devices[-1]

    with SerialBoard(make, seed=seed) as board:
        yield board


@pytest.fixture
def transport(board: SerialBoard) -> Iterator[SerialTransport]:
    with SerialTransport(board.port, patience=PATIENCE) as transport:
        yield transport


def damage(board: SerialBoard, rate: float) -> None:
    rates = FaultRates.all_kinds(rate)
    board.inject(to_board=rates, to_host=rates)


@pytest.mark.parametrize(("rate", "size"), [(0.0, 1 << 18), (1e-3, 1 << 15), (1e-2, 1 << 11)])
def test_memory_is_exact(
    board: SerialBoard,
    transport: SerialTransport,
    devices: list[CountedDevice],
    rng: np.random.Generator,
    rate: float,
    size: int,
) -> None:
    damage(board, rate)
    data = rng.bytes(size)
    transport.write(7, data)
    assert devices[0].read(0, 7) == bytes(7)
    assert devices[0].read(7, size) == data
    assert devices[0].read(7 + size, 64) == bytes(64)
    assert transport.read(7, size) == data
    counters = transport.link.counters
    assert (counters.damaged > 0) == (rate > 0)
    assert counters.retried > 0 or not rate


@pytest.mark.parametrize("rate", [0.0, 1e-3, 1e-2])
def test_register_accesses_happen_once(
    board: SerialBoard, transport: SerialTransport, devices: list[CountedDevice], rate: float
) -> None:
    """Each write turns a bit of ISR over; each one between reads a bit that reading clears."""
    damage(board, rate)
    for turn in range(150):
        transport.write_register(ISR, 1)
        assert transport.read_register(ISR) == (turn + 1) % 2
        devices[0]._done = 2
        assert transport.read_register(AP_CTRL) & 2
        assert not transport.read_register(AP_CTRL) & 2
    assert devices[0].accesses == {("write", ISR): 150, ("read", AP_CTRL): 300}
    assert transport.link.counters.requests == 601  # and that which opened the board


@pytest.mark.parametrize(("loading", "decoding"), [(0.0, 0.0), (1e-3, 1e-3), (0.0, 1e-2)])
def test_tokens_are_those_of_golden(
    board: SerialBoard,
    transport: SerialTransport,
    devices: list[CountedDevice],
    model: Path,
    expected: tuple[list[int], np.ndarray],
    loading: float,
    decoding: float,
) -> None:
    damage(board, loading)
    asked = Asked(transport)
    decoder = load(asked, model)  # type: ignore[arg-type]
    damage(board, decoding)
    tokens, logits = decode(decoder)
    assert tokens == expected[0]
    assert np.array_equal(logits, expected[1])
    assert devices[0].accesses == asked.accesses
    assert devices[0].accesses["write", AP_CTRL] > 2
    assert (transport.link.counters.damaged > 0) == (decoding > 0)


def test_a_doorbell_takes_few_requests(board: SerialBoard, transport: SerialTransport) -> None:
    """Each is a round trip over the wire, and a token may take less than one."""
    device = Device(transport)
    transport.write(0, encode(Opcode.FENCE))
    # A request that comes again, because the machine was busy, has its number again.
    requests: set[tuple[int, int]] = set()
    board.on_request = lambda request: requests.add((request.sequence, request.kind))
    device.start(0, 1, arguments=range(5))
    asked = Counter(Kind(kind).name for _, kind in requests)
    # How often it asks for the end depends on how fast the machine is.
    assert asked.pop("STATUS") > 0
    # ISR; five arguments, the queue's three, AP_CTRL, ISR; the outcome.
    assert asked == {"READ_REGISTER": 1, "WRITE_REGISTER": 10, "READ_REGISTERS": 1}


@pytest.mark.slow
def test_tokens_over_a_very_bad_line(
    board: SerialBoard, transport: SerialTransport, model: Path, expected: tuple[list[int], np.ndarray]
) -> None:
    damage(board, 1e-2)
    tokens, logits = decode(load(transport, model))
    assert tokens == expected[0]
    assert np.array_equal(logits, expected[1])


class Trigger:
    """Does something when a request comes that it waits for, the `count`-th one of its kind."""

    def __init__(self, wanted: Callable[[Request], bool], count: int, action: Callable[[], None]) -> None:
        self.wanted, self.left, self.action = wanted, count, action

    def __call__(self, request: Request) -> None:
        if self.wanted(request):
            self.left -= 1
            if self.left == 0:
                self.action()


def doorbell(request: Request) -> bool:
    return request.kind == Kind.WRITE_REGISTER and request.address == AP_CTRL


def of(kind: Kind) -> Callable[[Request], bool]:
    return lambda request: request.kind == kind


#: Moments in a decode step, by the request that comes then and how often it came before.
MOMENTS: dict[str, tuple[Callable[[Request], bool], int]] = {
    "first look": (of(Kind.READ_REGISTER), 1),
    "geometry": (of(Kind.READ_REGISTER), 6),
    "upload begins": (of(Kind.WRITE_MEMORY), 1),
    "upload": (of(Kind.WRITE_MEMORY), 40),
    "arguments": (lambda request: request.address == offset("ARGUMENT_0"), 1),
    "first doorbell": (doorbell, 1),
    "doorbell": (doorbell, 3),
    "run": (of(Kind.STATUS), 2),
    "counters": (of(Kind.READ_REGISTERS), 2),
    "tokens are read": (of(Kind.READ_MEMORY), 1),
    "logits are read": (of(Kind.READ_MEMORY), 2),
}


def fails_for_good(transport: SerialTransport, decoder: list[Decoder], model: Path, text: str) -> None:
    """A decode step fails with an error that stays, and gives nothing."""
    results = []
    match = f"^{re.escape(text)}$"
    with pytest.raises(LinkError, match=match):
        decoder.append(load(transport, model))
        results.append(decode(decoder[0]))
    assert not results
    for call in (lambda: decoder[0].run(1), lambda: decoder[0].step(1)) if decoder else ():
        with pytest.raises(LinkError, match=match):
            results.append(call())  # type: ignore[arg-type]
    assert not results
    for access in (lambda: transport.read(0, 4), lambda: transport.write(0, b"x"), lambda: transport.wait(1.0)):
        # A device that could not be opened was closed.
        with pytest.raises((LinkError, DeviceClosed), match=f"{match}|^the device is closed: open it again$"):
            access()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_reset_board_gives_no_token(
    board: SerialBoard, transport: SerialTransport, devices: list[CountedDevice], model: Path, moment: str
) -> None:
    if moment == "run":
        devices[0].gate.clear()
    board.on_request = Trigger(*MOMENTS[moment], board.reset)
    fails_for_good(
        transport,
        [],
        model,
        f"the board on serial port {board.port} was reset, or another program has opened it: {UNTRUSTED}",
    )
    # The board that was reset has done nothing for the old session.
    assert len(devices) == 2
    assert not devices[1].accesses
    assert devices[1].read(0, MEMORY) == bytes(MEMORY)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_unplugged_board_gives_no_token(
    board: SerialBoard, transport: SerialTransport, devices: list[CountedDevice], model: Path, moment: str
) -> None:
    if moment == "run":
        devices[0].gate.clear()
    board.on_request = Trigger(*MOMENTS[moment], board.unplug)
    fails_for_good(
        transport, [], model, f"the serial port {board.port} is gone: check its cable and the board's power; {UNTRUSTED}"
    )


def test_a_board_unplugged_while_it_is_opened(board: SerialBoard) -> None:
    board.on_request = Trigger(of(Kind.OPEN), 1, board.unplug)
    with pytest.raises(LinkError, match=f"^the serial port {board.port} is gone: "):
        SerialTransport(board.port)


def test_a_reset_between_runs(
    board: SerialBoard, transport: SerialTransport, model: Path, expected: tuple[list[int], np.ndarray]
) -> None:
    decoder = load(transport, model)
    assert decode(decoder)[0] == expected[0]
    board.reset()
    with pytest.raises(LinkError, match="^the board on serial port .* was reset, or another program has opened it: "):
        decoder.run(1)
    # Opened and loaded again, it is as good as new.
    transport.close()
    with SerialTransport(board.port, patience=PATIENCE) as again:
        assert decode(load(again, model))[0] == expected[0]


@pytest.mark.parametrize("moment", ["upload", "doorbell", "tokens are read"])
def test_another_program_takes_over(board: SerialBoard, transport: SerialTransport, model: Path, moment: str) -> None:
    """It opens the board by a way that the port's lock does not see."""

    def take_over() -> None:
        board.responder.answer(Request(Kind.OPEN, 0, 0xFFFF ^ transport.link._session | 1))

    board.on_request = Trigger(*MOMENTS[moment], take_over)
    fails_for_good(
        transport,
        [],
        model,
        f"the board on serial port {board.port} was reset, or another program has opened it: {UNTRUSTED}",
    )


@pytest.mark.parametrize("moment", ["upload", "run"])
def test_a_board_that_hangs(
    board: SerialBoard, transport: SerialTransport, model: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.on_request = Trigger(*MOMENTS[moment], lambda: monkeypatch.setattr(board, "_send", lambda data: None))
    fails_for_good(
        transport,
        [],
        model,
        f"the board on serial port {board.port} stopped answering (16 tries): check its cable and power; {UNTRUSTED}",
    )
