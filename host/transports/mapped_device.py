"""What devices with mapped registers and an interrupt have in common, whatever their memory is reached through."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from tailrace.spec.errors import DeviceClosed
from tailrace.spec.transport import RegisterByRegister

from .interrupt import InterruptWait
from .mapped_registers import MappedRegisters
from .opener import Opener


class MappedDevice(RegisterByRegister):
    """The registers and the interrupt of a transport; its memory is the subclass' own.

    A subclass sets `_registers` and `_wait` when it opens the device, releases what is its own in `_release`, and uses it only
    within `_opened`.
    """

    _registers: MappedRegisters | None = None
    _wait: InterruptWait

    def __init__(self) -> None:
        # A file that is closed under a transfer may be another one by the time it begins.
        self._lock = threading.RLock()
        self._opener = Opener()
        self._closed = False

    @property
    def statistics(self) -> dict[str, int]:
        """Interrupts that arrived, and that should have."""
        return self._wait.statistics

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset."""
        with self._opened() as registers:
            return registers.read(offset)

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        with self._opened() as registers:
            registers.write(offset, value)

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is raised.

        Raises
        ------
        DeviceTimeout
            If there was no progress for `timeout` seconds.
        """
        self._wait.wait(timeout)

    def close(self) -> None:
        """Release the device. Closing twice is harmless. What another thread is waiting for ends with `DeviceClosed`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._registers is not None:
                self._registers.close()
            self._release()

    def _release(self) -> None:
        """Release all but the registers, which may be half opened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _opened(self) -> Iterator[MappedRegisters]:
        """The device, for this thread alone."""
        self._opener.check()
        with self._lock:
            if self._closed or self._registers is None:
                raise DeviceClosed
            yield self._registers
