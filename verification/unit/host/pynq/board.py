"""A board with PYNQ and a core: memory behind a cache, in which the core's device is golden or the emulator."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.transport import Transport

#: Bytes of the board's memory, and where buffers begin in it.
MEMORY, FIRST = 1 << 23, 0x10_0000
_PAGE = 4096


class Cached:
    """The processor's view of memory: what it writes is there after a flush, what is there is seen after an invalidation."""

    def __init__(self, device: Transport) -> None:
        self.device, self.place = device, FIRST
        self.flushed = self.invalidated = self.freed = 0

    def flush(self, address: int, data: NDArray[np.uint8]) -> None:
        self.flushed += data.nbytes
        self.device.write(address, data.tobytes())

    def invalidate(self, address: int, data: NDArray[np.uint8]) -> None:
        self.invalidated += data.nbytes
        data[:] = np.frombuffer(self.device.read(address, data.nbytes), np.uint8)

    def take(self, size: int) -> int:
        """Address of a buffer of so many bytes."""
        place, self.place = self.place, self.place + -(-size // _PAGE) * _PAGE
        if self.place > MEMORY:
            raise MemoryError("no room")
        return place


class Buffer(np.ndarray):  # type: ignore[type-arg]
    """A buffer as PYNQ's are: parts of it know where they are."""

    cache: Cached
    device_address: int

    def __new__(cls, cache: Cached, size: int, place: int | None = None) -> "Buffer":
        self = np.zeros(size, np.uint8).view(cls)
        self.cache, self.device_address = cache, cache.take(size) if place is None else place
        return self

    def __array_finalize__(self, other: Any) -> None:
        if isinstance(other, Buffer) and hasattr(other, "cache"):
            offset = self.__array_interface__["data"][0] - other.__array_interface__["data"][0]
            self.cache, self.device_address = other.cache, other.device_address + offset

    def flush(self) -> None:
        self.cache.flush(self.device_address, self.view(np.ndarray))

    def invalidate(self) -> None:
        self.cache.invalidate(self.device_address, self.view(np.ndarray))

    def freebuffer(self) -> None:
        self.cache.freed += 1


class Mmio:
    """The registers, as PYNQ's MMIO gives them."""

    def __init__(self, device: Transport) -> None:
        self._device = device

    def read(self, offset: int) -> int:
        return self._device.read_register(offset)

    def write(self, offset: int, value: int) -> None:
        self._device.write_register(offset, value)
