"""A LiteX design as a device that a driver can open, through LiteX's own server (``litex_server``) and any of its bridges."""

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from tailrace.spec.errors import ConfigError, DeviceClosed, LinkError, MissingPackage, TailraceError
from tailrace.spec.transport import RegisterByRegister

from .device_files import check_span
from .interrupt import InterruptWait
from .opener import Opener

#: TCP port on which ``litex_server`` listens unless it is told otherwise.
PORT = 1234
#: Seconds that an answer may take.
PATIENCE = 5.0
_WORD_BYTES, _WORD = 4, (1 << 32) - 1
#: Words of a packet. LiteX's simulated UART has room for 2048 bytes, and 128 words take 608 on a UART.
_WORDS = 128
#: Times that a packet is written before the bridge is given up.
_ATTEMPTS = 3
#: Seconds between two looks at the interrupt.
_LOOK = 0.002


class LitexTransport(RegisterByRegister):
    """A `tailrace.spec.transport.Transport` over ``litex_server``, for a design made with `tailrace.litex.add_tailrace`.

    LiteX's bridges answer no writes and have no checksums, so all memory that is written is read back, and written again if it
    differs.

    Parameters
    ----------
    csr_csv : str or path
        The file that LiteX's builder wrote with ``csr_csv=...``.
    host : str
        Where ``litex_server`` runs.
    port : int
        Its TCP port.
    core : str
        Name that the core has in the design.
    patience : float
        Seconds that an answer may take. A simulation may need much longer than hardware.

    Raises
    ------
    ConfigError
        If a number is out of range, or the file is not one of such a design.
    ToolError
        If LiteX is not installed.
    LinkError
        If the server can't be reached. Every other method raises it when the bridge does not answer, or damages what is
        written.
    """

    def __init__(
        self,
        csr_csv: str | os.PathLike[str],
        *,
        host: str = "localhost",
        port: int = PORT,
        core: str = "tailrace",
        patience: float = PATIENCE,
    ) -> None:
        if not 0 < port < 1 << 16:
            raise ConfigError(f"port must be 1 to 65535, not {port}")
        if not patience > 0:
            raise ConfigError(f"patience must be a positive number of seconds, not {patience:g}")
        self._path, self._server, self._patience = os.fspath(csr_csv), f"{host}:{port}", patience
        self._lock, self._opener, self._closed = threading.RLock(), Opener(), False
        #: Packets that were written again because they came out wrong.
        self._rewritten = 0
        self._client = _client(self._path, host, port)
        numbers, regions, registers = (part.d for part in (self._client.constants, self._client.mems, self._client.regs))
        try:
            self._base, self._memory_size = (int(numbers[f"{core}_memory_{what}"]) for what in ("base", "size"))
            self._control, self._pending = regions[core].base, registers[f"{core}_ev_pending"].addr
        except KeyError as error:
            raise ConfigError(
                f"{self._path} has no {error.args[0]}: it must be the csr.csv of a design with a core named {core!r}, made with"
                " tailrace.litex.add_tailrace"
            ) from None
        try:
            self._client.open()
            self._client.socket.settimeout(patience)
        except OSError as error:
            raise LinkError(
                f"no litex_server answers at {self._server} ({error.strerror or error}): start it, as in litex_server --uart"
                " --uart-port /dev/ttyUSB1"
            ) from None
        self._wait = InterruptWait(self.read_register, self._next_event)

    @property
    def name(self) -> str:
        """``litex:`` and the file."""
        return f"litex:{self._path}"

    @property
    def memory_size(self) -> int:
        """Bytes of device memory, as the file says."""
        return self._memory_size

    @property
    def simulated(self) -> bool:
        """False: cycles are those of hardware."""
        return False

    @property
    def statistics(self) -> dict[str, int]:
        """Interrupts that arrived, and that should have; packets that were written again."""
        return {**self._wait.statistics, "rewritten packets": self._rewritten}

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        check_span("read", address, size, self._memory_size)
        first = address // _WORD_BYTES * _WORD_BYTES
        count = -(-(address + size) // _WORD_BYTES) - first // _WORD_BYTES
        parts = []
        for done in range(0, count, _WORDS):
            words = self._read(self._base + first + _WORD_BYTES * done, min(_WORDS, count - done))
            parts.append(struct.pack(f"<{len(words)}I", *words))
        return b"".join(parts)[address - first :][:size]

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory, and read it back. Words that are written in part are read first."""
        view = memoryview(data).cast("B")
        check_span("write", address, len(view), self._memory_size)
        before = min(-address % _WORD_BYTES, len(view))
        whole = before + (len(view) - before) // _WORD_BYTES * _WORD_BYTES
        self._merge(address, view[:before])
        for start in range(before, whole, _WORD_BYTES * _WORDS):
            part = view[start : min(start + _WORD_BYTES * _WORDS, whole)]
            self._put(address + start, list(struct.unpack(f"<{len(part) // _WORD_BYTES}I", part)))
        self._merge(address + whole, view[whole:])

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset."""
        return self._read(self._control + offset, 1)[0]

    def read_registers(self, offset: int, count: int) -> list[int]:
        """Read 32-bit registers one after the other; see `Transport`."""
        return [
            value
            for done in range(0, count, _WORDS)
            for value in self._read(self._control + offset + _WORD_BYTES * done, min(_WORDS, count - done))
        ]

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        if not 0 <= value <= _WORD:
            raise TailraceError(f"a register holds 0 to {_WORD:#x}, not {value:#x}")
        self._write(self._control + offset, [value])

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is raised.

        Raises
        ------
        DeviceTimeout
            If there was no progress for `timeout` seconds.
        """
        self._wait.wait(timeout)

    def close(self) -> None:
        """Release the device. Closing twice is harmless. What another thread waits for ends with `DeviceClosed`."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_event(self, seconds: float) -> bool:
        """Wait for the core's event in its event manager: the interrupt itself, which `ISR` takes back."""
        end = time.monotonic() + seconds
        while not self._read(self._pending, 1)[0] & 1:
            if time.monotonic() >= end:
                return False
            time.sleep(_LOOK)
        return True

    def _merge(self, address: int, part: memoryview) -> None:
        """Write a part of a word."""
        if part:
            first = address // _WORD_BYTES * _WORD_BYTES
            word = bytearray(self.read(first, _WORD_BYTES))
            word[address - first : address - first + len(part)] = part
            self._put(first, list(struct.unpack("<I", word)))

    def _put(self, address: int, words: list[int]) -> None:
        for attempt in range(_ATTEMPTS):
            self._rewritten += bool(attempt)
            self._write(self._base + address, words)
            if self._read(self._base + address, len(words)) == words:
                return
        raise LinkError(
            f"{4 * len(words)} bytes at {address:#x} came out wrong {_ATTEMPTS} times: check the line to the bridge and its"
            " rate, and whether the design's SDRAM was initialised (by LiteX's BIOS, or litex_term)"
        )

    def _read(self, address: int, count: int) -> list[int]:
        return self._exchange(lambda client: client.read(address, count))

    def _write(self, address: int, words: list[int]) -> None:
        self._exchange(lambda client: client.write(address, words))

    def _exchange(self, call: Callable[[Any], Any]) -> Any:
        with self._opened() as client:
            try:
                return call(client)
            except OSError as error:
                # An answer that is late would be taken for that to the next request.
                self.close()
                reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
                raise LinkError(
                    f"the bridge behind litex_server at {self._server} does not answer ({reason} within {self._patience:g} s):"
                    " check the board and the server, and open the device again; patience=SECONDS waits longer"
                ) from None

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        self._opener.check()
        with self._lock:
            if self._closed:
                raise DeviceClosed
            yield self._client


def _client(path: str, host: str, port: int) -> Any:
    try:
        from litex.tools.litex_client import RemoteClient
    except ImportError as error:
        raise MissingPackage("litex", "to reach a LiteX design", "board") from error

    class Client(RemoteClient):
        """LiteX's client takes a late answer for zeros."""

        def receive_packet(self, socket: Any, addr_size: int) -> Any:
            packet = super().receive_packet(socket, addr_size)
            if packet == 0:
                raise TimeoutError
            return packet

    try:
        return Client(host, port, csr_csv=path)
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}): name the csr.csv of the design") from None
    except (KeyError, ValueError, IndexError, UnicodeDecodeError):
        raise ConfigError(f"{path} is not a csr.csv that LiteX's builder has written") from None
