"""A board on a serial port, without the board: a pseudo-terminal that speaks the board's side of `tailrace.spec.link`.

``python -m tailrace.sim.serial_board`` starts one and prints its port.
"""

import os
import select
import threading
import time
import tty
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import click
import numpy as np

from tailrace.spec.config import Config, parse_config
from tailrace.spec.errors import ConfigError, TailraceError
from tailrace.spec.link import (
    END,
    FLAG_INTERRUPT,
    FLAG_MEMORY_READY,
    IDENTITY,
    MAX_FRAME,
    MAX_PAYLOAD,
    RESPONSE,
    VERSION,
    WORD_BYTES,
    Kind,
    Request,
    Response,
    Status,
    decode,
    encode,
    unpack_request,
)
from tailrace.spec.registers import ADDRESS_BITS, AP_START, offset
from tailrace.spec.transport import Transport

from .devices import open_device

_MEMORY, _ONE_REGISTER = (Kind.READ_MEMORY, Kind.WRITE_MEMORY), (Kind.READ_REGISTER, Kind.WRITE_REGISTER)
_AP_CTRL, _GIE, _ISR = offset("AP_CTRL"), offset("GIE"), offset("ISR")
#: Bits on the wire per byte: start, 8, stop.
_BITS = 10
#: Seconds between two looks at what other threads ask for.
_TICK = 0.02


@dataclass(frozen=True)
class FaultRates:
    """How often a byte on the line is lost, has one bit flipped, comes twice, or comes with a random byte before it."""

    lost: float = 0.0
    flipped: float = 0.0
    doubled: float = 0.0
    inserted: float = 0.0

    @classmethod
    def all_kinds(cls, rate: float) -> "FaultRates":
        """Each kind of fault as often as the others, `rate` together."""
        return cls(*[rate / 4] * 4)


class FaultyLine:
    """Damages bytes.

    Parameters
    ----------
    rates : FaultRates
    seed : int or sequence of int
    """

    def __init__(self, rates: FaultRates, seed: int | list[int]) -> None:
        self._bounds = np.cumsum([rates.lost, rates.flipped, rates.doubled, rates.inserted])
        self._random = np.random.default_rng(seed)

    def carry(self, data: bytes) -> bytes:
        """What arrives of `data`."""
        if not self._bounds[-1] or not data:
            return data
        faults = np.searchsorted(self._bounds, self._random.random(len(data)), side="right")
        arrived = bytearray()
        for byte, fault in zip(data, faults, strict=True):
            if fault == 0:
                continue
            if fault == 1:
                byte ^= 1 << int(self._random.integers(8))
            if fault == 3:
                arrived.append(int(self._random.integers(256)))
            arrived += bytes([byte] * (2 if fault == 2 else 1))
        return bytes(arrived)


class LinkResponder:
    """The board's side of the link, between frames and a device.

    A run of the device is a thread of its own, so that the link answers meanwhile, as a board's does.

    Parameters
    ----------
    device : Transport
        It must bear being read while a write to AP_CTRL has not returned, as golden does.
    clock : int
        Hz, for `IDENTITY`.
    memory_ready_at : float
        `time.monotonic` from which on the memory is initialised.
    """

    def __init__(self, device: Transport, *, clock: int, memory_ready_at: float = 0.0) -> None:
        self.device = device
        self._clock, self._ready_at = clock, memory_ready_at
        self._session = 0
        #: Sequence number, kind, status and payload: what a request that comes again is answered with.
        self._last: tuple[int, int, Status, bytes] = (0, 0, Status.OK, b"")
        self._running = threading.Event()

    def answer(self, request: Request) -> Response:
        """Carry a request out, unless it was already."""
        sequence, kind, status, payload = self._last
        if request.kind == Kind.OPEN:
            if not _well_formed(request, self.device.memory_size):
                return self._response(request, Status.BAD_REQUEST)
            self._session = request.session
            status, payload = Status.OK, IDENTITY.pack(VERSION, MAX_PAYLOAD, self._clock, self.device.memory_size)
        elif not self._session or request.session != self._session:
            return self._response(request, Status.NO_SESSION)
        elif (request.sequence, request.kind) == (sequence, kind):
            if status == Status.OK and request.kind not in _ONE_REGISTER:
                status, payload = self._carry_out(request)
        elif request.sequence == (sequence + 1) % 256:
            status, payload = self._carry_out(request)
        else:
            return self._response(request, Status.OUT_OF_SEQUENCE)
        self._last = (request.sequence, request.kind, status, payload)
        return self._response(request, status, payload)

    @property
    def interrupt(self) -> bool:
        """Level of the device's interrupt output."""
        if self._running.is_set():
            return False
        return bool(self.device.read_register(_GIE) & 1 and self.device.read_register(_ISR))

    def _response(self, request: Request, status: Status, payload: bytes = b"") -> Response:
        flags = self.interrupt * FLAG_INTERRUPT | self._memory_ready * FLAG_MEMORY_READY
        return Response(request.kind | RESPONSE, request.sequence, request.session, status, flags, payload)

    @property
    def _memory_ready(self) -> bool:
        return time.monotonic() >= self._ready_at

    def _carry_out(self, request: Request) -> tuple[Status, bytes]:
        if not _well_formed(request, self.device.memory_size):
            return Status.BAD_REQUEST, b""
        if request.kind == Kind.STATUS:
            return Status.OK, b""
        if request.kind in _MEMORY and not self._memory_ready:
            return Status.NOT_READY, b""
        try:
            if request.kind == Kind.READ_MEMORY:
                return Status.OK, self.device.read(request.address, request.length)
            if request.kind == Kind.WRITE_MEMORY:
                self.device.write(request.address, request.payload)
            elif request.kind == Kind.READ_REGISTER:
                return Status.OK, self._read_register(request.address).to_bytes(WORD_BYTES, "little")
            elif request.kind == Kind.READ_REGISTERS:
                places = range(request.address, request.address + request.length, WORD_BYTES)
                return Status.OK, b"".join(self._read_register(place).to_bytes(WORD_BYTES, "little") for place in places)
            else:
                self._write_register(request.address, int.from_bytes(request.payload, "little"))
        except (TailraceError, ValueError):
            return Status.BUS_ERROR, b""
        return Status.OK, b""

    def _read_register(self, place: int) -> int:
        # A device that runs within its doorbell says idle as long as it is at it.
        return AP_START if place == _AP_CTRL and self._running.is_set() else self.device.read_register(place)

    def _write_register(self, place: int, value: int) -> None:
        if place != _AP_CTRL or not value & AP_START:
            self.device.write_register(place, value)
        elif not self._running.is_set():
            self._running.set()
            threading.Thread(target=self._run, args=(value,), daemon=True).start()

    def _run(self, value: int) -> None:
        try:
            self.device.write_register(_AP_CTRL, value)
        finally:
            self._running.clear()


class SerialBoard:
    """A board on a pseudo-terminal.

    Parameters
    ----------
    make_device : callable
        Makes the device behind the link; called again by `reset`, so it has nothing in its memory that was there before.
    clock : int
        Hz, for `IDENTITY`.
    baud : int or None
        Bits per second that the board's line takes time for; None: no time.
    to_board, to_host : FaultRates
    seed : int
        Of the faults.
    memory_delay : float
        Seconds after a reset until the memory is initialised.
    on_request : callable, optional
        Called with every undamaged request before it is carried out. It may call `reset` and `unplug`.

    Attributes
    ----------
    port : str
        What to open.
    responder : LinkResponder
    """

    def __init__(
        self,
        make_device: Callable[[], Transport],
        *,
        clock: int = 50_000_000,
        baud: int | None = None,
        to_board: FaultRates = FaultRates(),
        to_host: FaultRates = FaultRates(),
        seed: int = 1,
        memory_delay: float = 0.0,
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        self._make_device, self._clock, self._baud = make_device, clock, baud
        self._seed = seed
        self.inject(to_board, to_host)
        self._memory_delay, self.on_request = memory_delay, on_request
        # Held while a frame is answered. A callback in the board's own thread enters it again.
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._received = b""
        self.reset()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._serve, name=f"board on {self.port}", daemon=True)
        self._thread.start()

    def inject(self, to_board: FaultRates, to_host: FaultRates) -> None:
        """Damage what goes over the line from now on, in place of what was asked for before."""
        self._to_board, self._to_host = FaultyLine(to_board, [self._seed, 0]), FaultyLine(to_host, [self._seed, 1])

    def reset(self) -> None:
        """Cycle the power: session, registers, memory and what was on its way are lost. The port stays."""
        with self._lock:
            self._received = b""
            ready_at = time.monotonic() + self._memory_delay
            self.responder = LinkResponder(self._make_device(), clock=self._clock, memory_ready_at=ready_at)

    def unplug(self) -> None:
        """Pull the cable: the port is gone."""
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def close(self) -> None:
        """End the board. Closing twice is harmless."""
        self.unplug()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        try:
            while not self._stopped.is_set():
                if select.select([self._master], [], [], _TICK)[0]:
                    data = os.read(self._master, 1 << 16)
                    self._pace(data)
                    self._receive(self._to_board.carry(data))
        finally:
            os.close(self._master)
            os.close(self._slave)

    def _receive(self, data: bytes) -> None:
        *frames, self._received = (self._received + data).split(bytes([END]))
        # A board has no room for more than the longest frame.
        self._received = self._received[-2 * MAX_FRAME :]
        for stuffed in frames:
            frame = decode(stuffed)
            request = None if frame is None else unpack_request(frame)
            if request is None:
                continue
            with self._lock:
                if self.on_request is not None:
                    self.on_request(request)
                if self._stopped.is_set():
                    return
                response = self.responder.answer(request)
            self._send(encode(response.pack()))

    def _send(self, data: bytes) -> None:
        self._pace(data)
        try:
            os.write(self._master, self._to_host.carry(data))
        except BlockingIOError:
            pass  # Nobody reads: a serial line does not wait.

    def _pace(self, data: bytes) -> None:
        if self._baud is not None:
            time.sleep(len(data) * _BITS / self._baud)


def check_one_port(config: Config) -> None:
    """Check that a board on a serial port can have this build.

    Raises
    ------
    ConfigError
        If it has several memory ports.
    """
    if config.channels > 1:
        raise ConfigError(f"a board has one memory, and {config.name} has {config.channels} memory ports")


def _well_formed(request: Request, memory_size: int) -> bool:
    if request.kind in (Kind.OPEN, Kind.STATUS):
        return not (request.address or request.length or request.payload or request.kind == Kind.OPEN and not request.session)
    if request.kind not in (*_MEMORY, *_ONE_REGISTER, Kind.READ_REGISTERS):
        return False
    end = memory_size if request.kind in _MEMORY else 1 << ADDRESS_BITS
    longest = WORD_BYTES if request.kind in _ONE_REGISTER else MAX_PAYLOAD
    fits = 0 < request.length <= longest and request.address + request.length <= end
    whole = request.address % WORD_BYTES == 0 and request.length % WORD_BYTES == 0
    writes = request.kind in (Kind.WRITE_MEMORY, Kind.WRITE_REGISTER)
    return fits and whole and len(request.payload) == (request.length if writes else 0)


@click.command(help="A golden device on a pseudo-terminal, as a board on a serial port would be. Ctrl-C ends it.")
@click.option("--config", default="base", show_default=True, help="Build of the device.")
@click.option("--memory", default=256, show_default=True, help="MiB of memory.")
@click.option("--faults", default=0.0, show_default=True, help="Part of the bytes that the line damages, either way.")
@click.option("--seed", default=1, show_default=True, help="Seed of the faults.")
def main(config: str, memory: int, faults: float, seed: int) -> None:
    """Start a board and print its port."""
    rates = FaultRates.all_kinds(faults)
    try:
        built = parse_config(config)
        check_one_port(built)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    with SerialBoard(lambda: open_device("golden", built, memory << 20), to_board=rates, to_host=rates, seed=seed) as board:
        click.echo(f"serial:{board.port}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
