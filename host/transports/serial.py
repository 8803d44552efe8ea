"""A board on a serial port as a device that a driver can open."""

import time
from typing import Any, Self

from tailrace.spec.errors import ConfigError, DeviceTimeout, LinkError, MissingPackage, TailraceError
from tailrace.spec.link import FLAG_INTERRUPT, WORD_BYTES
from tailrace.spec.registers import offset

from .link import LinkSession

#: Bits per second that the boards of this project are built for.
BAUD = 3_000_000
#: Counters that move as long as the device does something on its memory bus.
_PROGRESS = tuple(offset(f"{name}_LO") for name in ("COMMAND_BEATS", "VECTOR_BEATS", "WEIGHT_BEATS", "WRITE_BEATS"))
#: Seconds between two looks at the interrupt, at first and at most; and between two looks at the counters, at most.
_FIRST_POLL, _LAST_POLL, _LOOK = 0.0005, 0.05, 5.0
_WORD = (1 << 32) - 1


class SerialTransport:
    """A `tailrace.spec.transport.Transport` over the serial link of `tailrace.spec.link`.

    Parameters
    ----------
    port : str
        Device file, such as ``/dev/ttyUSB0``, or ``COM3``.
    baud : int
        Bits per second, as the board was built.
    patience : float
        Seconds that a response may take beyond the time on the wire, before the request is sent again. Boards answer within
        milliseconds; a board that is simulated may need much longer.

    Attributes
    ----------
    link : LinkSession
        With `LinkSession.counters` of what went wrong on the line, and `LinkSession.clock`.

    Raises
    ------
    ConfigError
        If the baud rate or the patience is not positive.
    ToolError
        If pyserial is not installed.
    LinkError
        If the port does not exist, is busy, or no board answers. Every other method raises it when the link fails.
    """

    def __init__(self, port: str, *, baud: int = BAUD, patience: float = 0.1) -> None:
        if baud <= 0:
            raise ConfigError(f"baud must be a positive number of bits per second, not {baud}")
        if patience <= 0:
            raise ConfigError(f"patience must be a positive number of seconds, not {patience:g}")
        self._port = port
        channel = SerialChannel(port, baud, tick=min(0.02, patience / 4))
        try:
            self.link = LinkSession(channel, f"serial port {port}", baud=baud, patience=patience)
        except BaseException:
            channel.close()
            raise

    @property
    def name(self) -> str:
        """``serial:`` and the port."""
        return f"serial:{self._port}"

    @property
    def memory_size(self) -> int:
        """Bytes of device memory, as the board says."""
        return self.link.memory_size

    @property
    def simulated(self) -> bool:
        """False: cycles are those of hardware."""
        return False

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        self._check_range("read", address, size)
        first = address // WORD_BYTES * WORD_BYTES
        end = -(-(address + size) // WORD_BYTES) * WORD_BYTES
        return self.link.read_memory(first, end - first)[address - first :][:size] if size else b""

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory. Words that are written in part are read first."""
        view = memoryview(data).cast("B")
        self._check_range("write", address, len(view))
        before = -address % WORD_BYTES
        whole = max(len(view) - before, 0) // WORD_BYTES * WORD_BYTES
        self._merge(address, view[:before])
        self.link.write_memory(address + before, view[before : before + whole])
        self._merge(address + before + whole, view[before + whole :])

    def _merge(self, address: int, part: memoryview) -> None:
        """Write a part of a word."""
        if part:
            first = address // WORD_BYTES * WORD_BYTES
            word = bytearray(self.link.read_memory(first, WORD_BYTES))
            word[address - first : address - first + len(part)] = part
            self.link.write_memory(first, memoryview(word))

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset, once."""
        return self.link.read_register(offset)

    def read_registers(self, offset: int, count: int) -> list[int]:
        """Read 32-bit registers one after the other, which reading must not change; see `Transport`."""
        return self.link.read_registers(offset, count)

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset, once."""
        if not 0 <= value <= _WORD:
            raise TailraceError(f"a register holds 0 to {_WORD:#x}, not {value:#x}")
        self.link.write_register(offset, value)

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is raised.

        Raises
        ------
        DeviceTimeout
            If there was no transfer on the device's memory bus for `timeout` seconds.
        """
        # The flags come with every response. Reading AP_CTRL instead would clear what it reads.
        pause, look = _FIRST_POLL, min(timeout / 4, _LOOK)
        since = looked = time.monotonic()
        seen: list[int] | None = None
        while not self.link.status() & FLAG_INTERRUPT:
            now = time.monotonic()
            if now - looked >= look or now - since >= timeout:
                counts = [self.link.read_register(place) for place in _PROGRESS]
                if seen is not None and counts == seen:
                    if now - since >= timeout:
                        raise DeviceTimeout(
                            f"no interrupt and no transfer on the memory bus for {timeout:g} s on {self.name}: start the device"
                            " and enable its interrupt before waiting; if it was started, reset the board"
                        )
                else:
                    seen, since = counts, now
                looked = now
            time.sleep(pause)
            pause = min(pause * 1.5, _LAST_POLL)

    def close(self) -> None:
        """Release the port. Closing twice is harmless."""
        self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_range(self, what: str, address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > self.memory_size:
            raise TailraceError(
                f"can't {what} {size} bytes at {address:#x}: the device's memory has {self.memory_size} bytes, from 0 on"
            )


class SerialChannel:
    """A serial port as a `tailrace.transports.link.Channel`, for this program alone.

    Parameters
    ----------
    port : str
    baud : int
    tick : float
        Seconds after which a read without bytes returns.

    Raises
    ------
    ToolError
        If pyserial is not installed.
    LinkError
        If the port can't be opened.
    """

    def __init__(self, port: str, baud: int, tick: float) -> None:
        try:
            import serial
        except ImportError:
            raise MissingPackage("pyserial", "for serial ports", "serial") from None
        self._late: type[OSError] = serial.SerialTimeoutException
        try:
            # A line that takes nothing for seconds is like one that loses everything.
            self._port: Any = serial.Serial(port, baud, timeout=tick, write_timeout=5.0, exclusive=True)
        except ValueError as error:
            raise LinkError(f"the serial port {port} can't be used at {baud} baud: {error}") from error
        except OSError as error:
            raise LinkError(_reason(port, error)) from error
        try:
            # USB adapters otherwise hold back the end of a response for 16 ms.
            self._port.set_low_latency_mode(True)
        except (AttributeError, NotImplementedError, ValueError, OSError):
            pass

    def write(self, data: bytes) -> None:
        """Send bytes. OSError if the port is gone."""
        try:
            self._port.write(data)
        except self._late:
            pass

    def read(self, timeout: float) -> bytes:
        """What has arrived, after up to a tick for the first byte; nothing if none came. OSError if the port is gone."""
        return self._port.read(max(self._port.in_waiting, 1))

    def close(self) -> None:
        """Release the port. Closing twice is harmless."""
        self._port.close()


def _reason(port: str, error: OSError) -> str:
    """Why a port can't be opened, and what to do."""
    if isinstance(error.__context__, BlockingIOError):
        return f"the serial port {port} is busy: another program uses it; close that first"
    if isinstance(error.__context__, PermissionError):
        return (
            f"the serial port {port} may not be used: add yourself to the group that owns it (on Debian and Ubuntu:"
            " sudo usermod -a -G dialout $USER), then log in again"
        )
    if isinstance(error.__context__, FileNotFoundError):
        return f"the serial port {port} does not exist: check the cable, and list the ports with: tailrace devices"
    return f"the serial port {port} can't be opened: {error}"
