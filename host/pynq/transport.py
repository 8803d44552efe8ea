"""A core in a PYNQ overlay as a device that a driver can open."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tailrace.spec.errors import ConfigError, DeviceClosed
from tailrace.spec.registers import PAGE_BYTES
from tailrace.spec.transport import Piece, RegisterByRegister

from ..transports.device_files import check_span
from ..transports.interrupt import InterruptWait
from ..transports.opener import Opener


class PynqTransport(RegisterByRegister):
    """A `tailrace.spec.transport.Transport` over PYNQ's registers and a buffer of ``pynq.allocate``.

    The device's memory is the buffer, which it finds by the address that the driver writes to its registers ``BASE``. A buffer
    that is cached by the processor is flushed and invalidated for the bytes in question. The end of a run is found by reading
    ``ISR`` every millisecond.

    Parameters
    ----------
    mmio : pynq.MMIO
        The registers.
    buffer : pynq.buffer.PynqBuffer
        Bytes (``u1``), one dimension; it must begin at a multiple of 4096. Freed when the transport is closed.
    name : str
        For reports.

    Raises
    ------
    ConfigError
        If the buffer is of another kind.
    """

    simulated = False

    def __init__(self, mmio: Any, buffer: Any, name: str = "pynq") -> None:
        if buffer.dtype != np.uint8 or buffer.ndim != 1:
            raise ConfigError(
                f"the buffer must be one of bytes, as pynq.allocate((size,), 'u1') returns, not {buffer.dtype} of"
                f" {buffer.ndim} dimensions"
            )
        if buffer.device_address % PAGE_BYTES:
            raise ConfigError(
                f"the buffer begins at {buffer.device_address:#x}, and must at a multiple of {PAGE_BYTES}: allocate a larger"
                " one, and give a part of it"
            )
        self.name, self.memory_size = f"pynq:{name}", buffer.nbytes
        self._mmio, self._buffer = mmio, buffer
        self._opener = Opener()
        #: See `tailrace.spec.transport.Placed`.
        self.pieces = (Piece(int(buffer.device_address), buffer.nbytes),)
        self._wait = InterruptWait(self.read_register, None)

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        check_span("read", address, size, self.memory_size)
        part = self._opened()[address : address + size]
        if size:
            part.invalidate()
        return part.tobytes()

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory."""
        source = np.frombuffer(data, dtype=np.uint8)
        check_span("write", address, source.size, self.memory_size)
        part = self._opened()[address : address + source.size]
        if source.size:
            part[:] = source
            part.flush()

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset."""
        self._opened()
        return int(self._mmio.read(offset))

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        self._opened()
        self._mmio.write(offset, value)

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is raised.

        Raises
        ------
        DeviceTimeout
            If there was no progress for `timeout` seconds.
        """
        self._wait.wait(timeout)

    def close(self) -> None:
        """Free the buffer. Closing twice is harmless."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            buffer.freebuffer()

    def _opened(self) -> Any:
        self._opener.check()
        buffer = self._buffer
        if buffer is None:
            raise DeviceClosed
        return buffer


def allocated(allocate: Callable[..., Any], size: int, target: Any) -> Any:
    """A buffer for a device's memory.

    Parameters
    ----------
    allocate : callable
        ``pynq.allocate``.
    size : int
        Bytes.
    target : pynq.Device, or one of its memories, or None

    Raises
    ------
    ConfigError
        If the board does not give so much.
    """
    try:
        return allocate((size,), "u1", target=target)
    except (MemoryError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"the board gives no buffer of {size:,} bytes ({error}): choose a smaller model or context, or start the kernel"
            " with more contiguous memory (cma=...)"
        ) from error
