"""The host's side of `tailrace.spec.link`: requests that arrive once, over a line that may lose and damage bytes."""

import secrets
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, Protocol

from tailrace.spec.errors import DeviceClosed, LinkError
from tailrace.spec.link import (
    END,
    IDENTITY,
    MAX_FRAME,
    MAX_PAYLOAD,
    RESPONSE,
    RESPONSE_HEADER,
    VERSION,
    WORD_BYTES,
    Kind,
    Request,
    Response,
    Status,
    decode,
    encode,
    unpack_response,
)

from .opener import Opener

#: Times that a request is sent before the board is given up.
ATTEMPTS = 16
#: The same for the first one, which may go to a port without a board: two seconds with the usual patience.
ATTEMPTS_TO_OPEN = 8
#: Times that a long frame is sent before shorter ones are tried, and first tries in a row that succeed before longer ones are.
_ATTEMPTS_OF_LONG, _CLEAN_BEFORE_LONGER = 3, 8
#: Bytes of memory in the shortest frames that a noisy line brings it down to.
_SHORTEST = 16
#: Bits on the wire per byte: start, 8, stop.
_BITS = 10
_LOST_TRUST = "its memory can no longer be trusted; open it again and load the model again"


class Channel(Protocol):
    """A line that carries bytes both ways."""

    def write(self, data: bytes) -> None:
        """Send bytes. OSError if the line is gone."""
        ...

    def read(self, timeout: float) -> bytes:
        """What has arrived, after up to about `timeout` seconds for the first byte; nothing if none came. OSError as above."""
        ...

    def close(self) -> None:
        """Release the line. Closing twice is harmless."""
        ...


@dataclass
class LinkCounters:
    """What happened on a link since it was opened.

    Attributes
    ----------
    requests : int
        Requests, each counted once.
    retried : int
        Frames that were sent again.
    unanswered : int
        Times that no response came in time: the request or its response was lost or damaged.
    damaged : int
        Frames that came with a wrong checksum or were no frames.
    stale : int
        Responses to a request that was already answered.
    resynchronised : int
        Times that the board was asked which requests it had carried out.
    bytes_sent, bytes_received : int
    """

    requests: int = 0
    retried: int = 0
    unanswered: int = 0
    damaged: int = 0
    stale: int = 0
    resynchronised: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class LinkSession:
    """A session with a board.

    A request is sent until its response comes. Long frames that do not get through give way to shorter ones, and those to
    longer ones again when the line is clean. After an error that leaves it open what the board holds, every call raises it.

    Parameters
    ----------
    channel : Channel
        Closed together with the session.
    place : str
        What messages call the line, such as ``serial port /dev/ttyUSB0``.
    baud : int
        Bits per second on the line.
    patience : float
        Seconds that a response may take beyond the time on the wire. It grows to four times as much for late tries.
    attempts : int
        Times that a request is sent, once the session is open.
    memory_patience : float
        Seconds to wait for the board's memory to be initialised.

    Attributes
    ----------
    counters : LinkCounters
    clock : int
        Clock of the board, Hz.
    memory_size : int
        Bytes of memory.
    max_payload : int
        Most bytes of a payload.
    flags : int
        Flags of the last response.

    Raises
    ------
    LinkError
        If no board answers, or it speaks another version.
    """

    def __init__(
        self,
        channel: Channel,
        place: str,
        *,
        baud: int,
        patience: float = 0.1,
        attempts: int = ATTEMPTS,
        memory_patience: float = 10.0,
    ) -> None:
        self.counters = LinkCounters()
        self.flags = 0
        self._channel, self._place, self._baud = channel, place, baud
        self._patience, self._attempts, self._memory_patience = patience, attempts, memory_patience
        self._session = secrets.randbelow(0xFFFF) + 1
        self._failure: str | None = None
        # Held from a request to its response; a thread that closes the session waits for that.
        self._lock = threading.RLock()
        self._opener = Opener()
        self._closed = False
        self._opened = False
        self._received = b""
        # The last request that the board is known to have taken, and how many after it it may have taken as well.
        self._last, self._unsure = -1, 0
        self.clock, self.memory_size, self.max_payload = self._open()
        self._opened = True
        self._piece, self._clean = self.max_payload, 0

    def close(self) -> None:
        """Release the line. Closing twice is harmless. What another thread waits for ends first."""
        with self._lock:
            self._closed = True
            self._channel.close()

    def status(self) -> int:
        """Flags of the board, as of now."""
        return self._request(Kind.STATUS).flags

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset, exactly once."""
        return int.from_bytes(self._request(Kind.READ_REGISTER, offset, WORD_BYTES).payload, "little")

    def read_registers(self, offset: int, count: int) -> list[int]:
        """Read 32-bit registers one after the other, from a byte offset on; perhaps more than once."""
        data = self._read(Kind.READ_REGISTERS, offset, WORD_BYTES * count)
        return [value for (value,) in struct.iter_unpack("<I", data)]

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset, exactly once."""
        self._request(Kind.WRITE_REGISTER, offset, WORD_BYTES, value.to_bytes(WORD_BYTES, "little"))

    def read_memory(self, address: int, size: int) -> bytes:
        """Read `size` bytes at `address`, both multiples of 4."""
        return self._read(Kind.READ_MEMORY, address, size)

    def write_memory(self, address: int, data: memoryview) -> None:
        """Write bytes at `address`; it and their number are multiples of 4."""
        done = 0
        while done < len(data):
            payload = bytes(data[done : done + self._piece])
            if self._request_piece(Kind.WRITE_MEMORY, address + done, len(payload), payload) is not None:
                done += len(payload)

    def _read(self, kind: Kind, address: int, size: int) -> bytes:
        """Read what may be read again, in pieces that arrive."""
        parts = []
        done = 0
        while done < size:
            length = min(self._piece, size - done)
            response = self._request_piece(kind, address + done, length)
            if response is not None:
                parts.append(response.payload)
                done += length
        return b"".join(parts)

    def _open(self) -> tuple[int, int, int]:
        response = self._exchange(Kind.OPEN, attempts=ATTEMPTS_TO_OPEN)
        if response is None:
            self._fail_silent()
        if response.status != Status.OK:
            self._fail(f"the board on {self._place} refused to be opened (status {response.status}): reset it and try again")
        version = int.from_bytes(response.payload[:2], "little")
        if version != VERSION or len(response.payload) != IDENTITY.size:
            self._fail(
                f"the board on {self._place} speaks version {version} of the link, and this program version {VERSION}:"
                " build its bitstream again with this program, or install the program that it was built with"
            )
        _, payload, clock, memory = IDENTITY.unpack(response.payload)
        if payload < _SHORTEST:
            self._fail(f"the board on {self._place} takes payloads of {payload} bytes, and {_SHORTEST} is the least")
        return clock, memory, min(payload, MAX_PAYLOAD) // WORD_BYTES * WORD_BYTES

    def _request(self, kind: Kind, address: int = 0, length: int = 0, payload: bytes = b"") -> Response:
        """Have a request carried out."""
        self._opener.check()
        with self._lock:
            self._settle()
            response = self._exchange(kind, address, length, payload, attempts=self._attempts)
            if response is None:
                self._fail_silent()
            return self._judged(response, kind, address, length)

    def _request_piece(self, kind: Kind, address: int, length: int, payload: bytes = b"") -> Response | None:
        """Have something carried out that may be carried out again; None if the frame was too long for this line."""
        deadline = None
        self._opener.check()
        while True:
            with self._lock:
                self._settle()
                short = length <= _SHORTEST
                before = self.counters.retried
                attempts = self._attempts if short else _ATTEMPTS_OF_LONG
                response = self._exchange(kind, address, length, payload, attempts=attempts)
                if response is None:
                    if short:
                        self._fail_silent()
                    self._piece = max(_SHORTEST, length // 2 // WORD_BYTES * WORD_BYTES)
                    self._clean = 0
                    return None
                if response.status != Status.NOT_READY:
                    self._adapt(self.counters.retried == before)
                    return self._judged(response, kind, address, length)
            now = time.monotonic()
            deadline = now + self._memory_patience if deadline is None else deadline
            if now >= deadline:
                raise LinkError(
                    f"the memory of the board on {self._place} does not come up: it is not initialised after"
                    f" {self._memory_patience:g} s. Reset the board; if that does not help, check that its bitstream was"
                    " built for this board's memory"
                )
            time.sleep(min(0.02, self._memory_patience / 4))

    def _adapt(self, clean: bool) -> None:
        """Try longer frames when a row of them arrived at the first try."""
        self._clean = self._clean + 1 if clean else 0
        if self._clean == _CLEAN_BEFORE_LONGER:
            self._piece, self._clean = min(2 * self._piece, self.max_payload), 0

    def _judged(self, response: Response, kind: Kind, address: int, length: int) -> Response:
        if response.status == Status.OK:
            return response
        what = f"{kind.name} of {length} bytes at {address:#x}"
        if response.status == Status.OUT_OF_SEQUENCE:
            self._fail(
                f"the board on {self._place} has lost count of the requests: another program uses it as well, or its link is"
                f" broken; {_LOST_TRUST}"
            )
        if response.status == Status.BUS_ERROR:
            raise LinkError(
                f"the bus of the board on {self._place} answered {what} with an error: check that the address exists, and the"
                " memory's clock and reset"
            )
        name = Status(response.status).name if response.status in set(Status) else response.status
        raise LinkError(
            f"the board on {self._place} refused {what} ({name}): its bitstream was made for another program; build it again"
        )

    def _settle(self) -> None:
        """Find out whether the board took the last request, if that was left open."""
        if self._closed:
            raise DeviceClosed
        if self._failure is not None:
            raise LinkError(self._failure)
        if self._unsure:
            self.counters.resynchronised += 1
        while self._unsure:
            response = self._exchange(Kind.STATUS, attempts=self._attempts)
            if response is None:
                self._fail_silent()
            if response.status == Status.OUT_OF_SEQUENCE:
                # Neither the request nor the one before it. What was sent earlier has arrived earlier or never will.
                self._unsure -= 2

    def _exchange(
        self, kind: Kind, address: int = 0, length: int = 0, payload: bytes = b"", *, attempts: int
    ) -> Response | None:
        """Send a request until its response comes; None if none did, and then it is open whether it was carried out."""
        self._unsure += 1
        request = Request(kind, (self._last + self._unsure) % 256, self._session, address, length, payload)
        frame = encode(request.pack())
        # Every byte of the response may need two on the wire.
        longest = 2 * (MAX_FRAME if kind == Kind.OPEN else RESPONSE_HEADER.size + 4 + length)
        wire = (len(frame) + longest) * _BITS / self._baud
        self.counters.requests += 1
        for attempt in range(attempts):
            self.counters.retried += attempt > 0
            self._send(frame)
            response = self._wait_for(request, wire + self._patience * min(1 << max(attempt - 2, 0), 4))
            if response is not None:
                self._take(response)
                return response
            self.counters.unanswered += 1
        return None

    def _take(self, response: Response) -> None:
        """Note what a response says of the board."""
        self.flags = response.flags
        if response.status == Status.NO_SESSION:
            self._fail(f"the board on {self._place} was reset, or another program has opened it: {_LOST_TRUST}")
        if response.status != Status.OUT_OF_SEQUENCE:
            self._last, self._unsure = response.sequence, 0

    def _send(self, frame: bytes) -> None:
        try:
            self._channel.write(frame)
        except OSError as error:
            self._fail_gone(error)
        self.counters.bytes_sent += len(frame)

    def _wait_for(self, request: Request, timeout: float) -> Response | None:
        deadline = time.monotonic() + timeout
        wanted = None
        while wanted is None and (left := deadline - time.monotonic()) > 0:
            damaged = self.counters.damaged
            for response in self._responses(left):
                if wanted is None and _answers(response, request):
                    wanted = response
                else:
                    self.counters.stale += 1
            if self.counters.damaged > damaged:
                # That was the response, or a part of it.
                deadline = min(deadline, time.monotonic() + self._patience / 8)
        return wanted

    def _responses(self, timeout: float) -> Iterator[Response]:
        """Read from the line once, and yield the responses that are whole."""
        try:
            data = self._channel.read(timeout)
        except OSError as error:
            self._fail_gone(error)
        self.counters.bytes_received += len(data)
        *frames, self._received = (self._received + data).split(bytes([END]))
        if len(self._received) > 2 * MAX_FRAME:
            frames.append(self._received)
            self._received = b""
        for stuffed in filter(None, frames):
            frame = decode(stuffed)
            response = None if frame is None else unpack_response(frame)
            if response is None:
                self.counters.damaged += 1
            else:
                yield response

    def _fail(self, text: str) -> NoReturn:
        """Raise an error that stays."""
        self._failure = text
        raise LinkError(text)

    def _fail_gone(self, error: OSError) -> NoReturn:
        self._failure = f"the {self._place} is gone: check its cable and the board's power; {_LOST_TRUST}"
        raise LinkError(self._failure) from error

    def _fail_silent(self) -> NoReturn:
        if self._opened:
            self._fail(
                f"the board on {self._place} stopped answering ({self._attempts} tries): check its cable and power;"
                f" {_LOST_TRUST}"
            )
        came = " Something answers, but damaged: the baud rate is probably another." if self.counters.damaged else ""
        self._fail(
            f"no board answers on {self._place} ({ATTEMPTS_TO_OPEN} tries): check that the board has power, that this is its"
            f" port, that its bitstream is loaded, and that it was built for {self._baud} baud.{came}"
        )


def _answers(response: Response, request: Request) -> bool:
    """Whether a response is that of a request."""
    same = (response.kind, response.sequence, response.session) == (request.kind | RESPONSE, request.sequence, request.session)
    if not same or response.status != Status.OK or request.kind == Kind.OPEN:
        return same
    reads = request.kind in (Kind.READ_MEMORY, Kind.READ_REGISTER, Kind.READ_REGISTERS)
    return len(response.payload) == (request.length if reads else 0)
