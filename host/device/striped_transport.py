"""A build of several memory ports over a transport that knows one memory."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tailrace.spec.errors import ConfigError
from tailrace.spec.registers import PAGE_BYTES
from tailrace.spec.stripes import bytes_before
from tailrace.spec.transport import Piece, Transport

from ..transports.device_files import check_span
from ..transports.facts import statistics_of

#: Bytes that are dealt out at a time, a multiple of every beat: as many again are held.
_PORTION = 8 << 20


class Part(NamedTuple):
    """A channel's part of a memory.

    Attributes
    ----------
    address : int
        Of its first byte, as the transport counts.
    bus_address : int
        The same on the device's memory bus: the channel's ``BASE``.
    size : int
        Bytes, a multiple of 4096.
    """

    address: int
    bus_address: int
    size: int


def deal_out(pieces: Sequence[Piece], channels: int, name: str) -> tuple[Part, ...]:
    """Give each channel a part of a memory, all equally large, and none across two pieces.

    Parameters
    ----------
    pieces : sequence of Piece
        The memory.
    channels : int
        How many parts.
    name : str
        Of the device, for the error.

    Returns
    -------
    tuple of Part
        As large as the pieces allow.

    Raises
    ------
    ConfigError
        If there is less than a page for each channel.
    """
    sizes = {piece.size // count // PAGE_BYTES * PAGE_BYTES for piece in pieces for count in range(1, channels + 1)} - {0}
    size = max((size for size in sizes if sum(piece.size // size for piece in pieces) >= channels), default=0)
    if not size:
        raise ConfigError(
            f"{name} has {channels} memory ports, and {sum(piece.size for piece in pieces)} bytes of memory for them: give"
            f" {PAGE_BYTES} or more for each"
        )
    parts, first = list[Part](), 0
    for piece in pieces:
        parts += (Part(first + n, piece.bus_address + n, size) for n in range(0, piece.size - size + 1, size))
        first += piece.size
    return tuple(parts[:channels])


class StripedTransport:
    """A `tailrace.spec.transport.Transport` that stripes device memory over parts of one memory, a part for each channel.

    ::

        memory of the transport   │◀── part of channel 0 ──▶│◀── part of channel 1 ──▶│ …
                                  BASE                      BASE_1
        device memory             stripe 0 of channel 0, stripe 0 of channel 1, …, stripe 1 of channel 0, …

    What is written is dealt out, and what is read is put together. Each channel's bytes of an access lie in a row, so an access
    is at most one for each channel and each 8 MiB.

    Parameters
    ----------
    transport : Transport
        Over the memory that all channels reach. Closed together with this.
    parts : sequence of Part
        One for each memory port of the build, equally large.
    port_bytes : int
        Bytes that a port transfers in a cycle.
    """

    def __init__(self, transport: Transport, parts: Sequence[Part], port_bytes: int) -> None:
        self._transport, self._parts, self._port_bytes = transport, tuple(parts), port_bytes
        self._channels = len(self._parts)

    @property
    def below(self) -> Transport:
        """The transport over the memory that all channels reach."""
        return self._transport

    @property
    def name(self) -> str:
        """That of the transport."""
        return self._transport.name

    @property
    def memory_size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self._parts)

    @property
    def simulated(self) -> bool:
        """Whether cycles are those of a simulation."""
        return self._transport.simulated

    @property
    def striped(self) -> bool:
        """True."""
        return True

    @property
    def link(self) -> Any:
        """The transport's link; None if it has none."""
        return getattr(self._transport, "link", None)

    @property
    def statistics(self) -> dict[str, int]:
        """What the transport counted."""
        return statistics_of(self._transport)

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        check_span("read", address, size, self.memory_size)
        return b"".join(self._read_portion(first, end) for first, end in self._portions(address, size))

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory."""
        view = memoryview(data).cast("B")
        check_span("write", address, len(view), self.memory_size)
        for first, end in self._portions(address, len(view)):
            self._write_portion(first, end, view[first - address : end - address])

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset."""
        return self._transport.read_register(offset)

    def read_registers(self, offset: int, count: int) -> list[int]:
        """Read 32-bit registers one after the other; see `Transport`."""
        return self._transport.read_registers(offset, count)

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        self._transport.write_register(offset, value)

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is raised.

        Raises
        ------
        DeviceTimeout
            If nothing happened for `timeout` seconds.
        """
        self._transport.wait(timeout)

    def close(self) -> None:
        """Release the device. Closing twice is harmless."""
        self._transport.close()

    @staticmethod
    def _portions(address: int, size: int) -> Iterator[tuple[int, int]]:
        """First byte, and the one behind the last, of what is moved at a time; boundaries are multiples of `_PORTION`."""
        first, end = address, address + size
        while first < end:
            last = min(end, (first // _PORTION + 1) * _PORTION)
            yield first, last
            first = last

    def _spans(self, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Channel, and its addresses of the bytes from `first` to `end`, for each channel that has one."""
        for channel in range(self._channels):
            low, high = (bytes_before(place, channel, self._channels, self._port_bytes) for place in (first, end))
            if low < high:
                yield channel, low, high

    def _rows(self, first: int, end: int) -> tuple[int, int]:
        """The first beat that bytes from `first` to `end` are in, and how many are."""
        beat = self._channels * self._port_bytes
        return first // beat, -(-end // beat) - first // beat

    def _read_portion(self, first: int, end: int) -> bytes:
        row, count = self._rows(first, end)
        found = np.empty((count, self._channels, self._port_bytes), np.uint8)
        before = row * self._port_bytes
        for channel, low, high in self._spans(first, end):
            own = np.empty(count * self._port_bytes, np.uint8)
            data = self._transport.read(self._parts[channel].address + low, high - low)
            own[low - before : high - before] = np.frombuffer(data, np.uint8)
            found[:, channel] = own.reshape(count, -1)
        skipped = first - row * self._channels * self._port_bytes
        return found.reshape(-1)[skipped : skipped + end - first].tobytes()

    def _write_portion(self, first: int, end: int, data: memoryview) -> None:
        row, count = self._rows(first, end)
        dealt = np.empty((count, self._channels, self._port_bytes), np.uint8)
        before = row * self._port_bytes
        skipped = first - row * self._channels * self._port_bytes
        dealt.reshape(-1)[skipped : skipped + len(data)] = np.frombuffer(data, np.uint8)
        for channel, low, high in self._spans(first, end):
            own = np.ascontiguousarray(dealt[:, channel]).reshape(-1)
            self._transport.write(self._parts[channel].address + low, own[low - before : high - before].data)
