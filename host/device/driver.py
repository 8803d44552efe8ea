"""The driver: a device that runs commands, whatever it is made of, and its memory."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from weakref import WeakKeyDictionary

from tailrace.spec.errors import ConfigError, DeviceClosed, DeviceTimeout
from tailrace.spec.registers import AP_IDLE, AP_START, PAGE_BYTES, base_registers, offset
from tailrace.spec.transport import MapsFiles, Piece, Placed, Striped, Transport

from ..gguf.printable import shown
from ..gguf.whole_number import whole_number
from ..image.allocator import Allocator
from ..image.geometry import Geometry
from .counters import Counters
from .outcome import read_outcome
from .striped_transport import StripedTransport, deal_out


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""
        ...


@dataclass
class _Access:
    """Who may use a transport.

    Attributes
    ----------
    lock : RLock
        Held by the thread that uses the device, from what a run is given to what it leaves.
    driver : object
        Marks the `Device` that opened the transport last: an earlier one knows neither what lies in the memory now nor where.
    settled : bool
        Whether the device is known to be idle. If not, an earlier run may still read and write memory.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    driver: object = None
    settled: bool = False


_ACCESSES: WeakKeyDictionary[Transport, _Access] = WeakKeyDictionary()
_ACCESSES_LOCK = threading.Lock()


class Device:
    """A device, opened. Its geometry comes from its registers, so one driver serves every build.

    It may be used from several threads: each call has the device for itself until it returns, and `exclusive` does the same for
    several calls. Nothing is written while a run that was interrupted or given up may still be at work: see `settle`.

    Parameters
    ----------
    transport : Transport
        Closed together with the device, and also if it can't be opened. A `Device` that was opened on it before is closed by
        this one.
    timeout : float
        Seconds without progress after which a run is given up.
    watchdog_cycles : int or None
        Cycles without a transfer on the memory bus after which the device stops itself; 0: `DEFAULT_WATCHDOG_CYCLES`;
        `NO_WATCHDOG`: never; None: as the device is.

    Attributes
    ----------
    transport : Transport
        For what it tells of itself. Memory is read and written by way of `read` and `write`.
    geometry : Geometry
    counters : Counters
        Sums over all runs so far.
    results_digest : Digest or None
        If set, fed with every result vector in order: equal digests of two devices mean equal bits.

    Raises
    ------
    TypeError
        If it is no transport, but the name of one.
    ConfigError
        If a number is not one.
    TailraceError
        If it is not a Tailrace device, or one for another instruction set.
    DeviceTimeout
        If it is still at work on a run that does not end.
    """

    def __init__(self, transport: Transport, *, timeout: float = 60.0, watchdog_cycles: int | None = None) -> None:
        if not hasattr(transport, "read_register") or isinstance(transport, Device):
            raise TypeError(
                "a device takes an open transport, as tailrace.sim.devices.open_device('golden', config, memory_size) returns,"
                f" not {shown(transport)}"
            )
        if isinstance(transport, StripedTransport):
            # What another `Device` made of the transport: this one makes its own.
            transport = transport.below
        self.transport = transport
        self.timeout = timeout
        self.counters = Counters()
        self.results_digest: Digest | None = None
        with _ACCESSES_LOCK:
            self._access = _ACCESSES.setdefault(transport, _Access())
        self._mark = object()
        try:
            with self._access.lock:
                self._access.driver, self._access.settled = self._mark, False
                if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0:
                    raise ConfigError(f"timeout must be a number of seconds above 0, not {shown(timeout)}")
                if watchdog_cycles is not None:
                    watchdog_cycles = whole_number("watchdog_cycles", watchdog_cycles, 0, 0xFFFF_FFFF)
                self.geometry = Geometry.of_device(transport)
                channels = self.geometry.channels
                pieces = _pieces(transport, self.geometry)
                bases = [pieces[0].bus_address] * channels
                if channels > 1 and not (isinstance(transport, Striped) and transport.striped):
                    parts = deal_out(pieces, channels, transport.name)
                    self.transport = transport = StripedTransport(transport, parts, self.geometry.bus_width // 8)
                    bases = [part.bus_address for part in parts]
                size = min(transport.memory_size, 1 << self.geometry.address_width)
                self._memory = Allocator(size, unit=self.geometry.alignment)
                for name in ("GIE", "IER"):
                    transport.write_register(offset(name), 1)
                if watchdog_cycles is not None:
                    transport.write_register(offset("WATCHDOG_CYCLES"), watchdog_cycles)
                self.settle()
                # A program that leaves the memory is stopped, also where the memory's own addresses would wrap around.
                row = PAGE_BYTES * channels
                limit = min(-(-transport.memory_size // row) * row, 1 << self.geometry.address_width)
                for name, value in (*zip(base_registers(channels), bases, strict=True), ("LIMIT", limit)):
                    transport.write_register(offset(f"{name}_LO"), value & 0xFFFF_FFFF)
                    transport.write_register(offset(f"{name}_HI"), value >> 32 & 0xFFFF_FFFF)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the device. Closing twice is harmless.

        A run that another thread waits for ends there with `DeviceClosed`; hardware goes on with it.
        """
        with _ACCESSES_LOCK:
            if self._access.driver is not self._mark:
                return
            self._access.driver = None
        self.transport.close()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other threads off the device as long as this is open: they wait.

        Raises
        ------
        DeviceClosed
            If the device was closed.
        """
        with self._access.lock:
            if self._access.driver is not self._mark:
                raise DeviceClosed
            yield

    def settle(self) -> None:
        """Wait for what an earlier run still does, one that was interrupted or given up, by this program or another.

        Until then it reads and writes memory. All that this class writes waits for it.

        Raises
        ------
        DeviceTimeout
            If that run does not end.
        """
        with self.exclusive():
            if self._access.settled:
                return
            try:
                while not self.transport.read_register(offset("AP_CTRL")) & AP_IDLE:
                    self.transport.wait(self.timeout)
                    self._acknowledge()
            except DeviceTimeout as error:
                raise DeviceTimeout(
                    f"{self.transport.name} is still at work on an earlier run, and nothing moved for {self.timeout:g} s, so"
                    " nothing was written to it. Check that its memory answers; if that does not help, reset the device or load"
                    " its bitstream again, and open it again"
                ) from error
            self._acknowledge()
            self._access.settled = True

    @property
    def free_memory(self) -> int:
        """Bytes of device memory that nothing uses."""
        return self._memory.free

    @property
    def free_address(self) -> int:
        """Address from which on device memory is free."""
        return self._memory.top

    @property
    def memory_size(self) -> int:
        """Bytes of device memory, from address 0 on, that the device can address."""
        return self._memory.end

    @contextmanager
    def reserve(self, size: int, purpose: str) -> Iterator[int]:
        """Take device memory for good, and keep other threads off the device while it is filled.

        Yields
        ------
        int
            Address of `size` bytes, a multiple of 64. If what is done with them fails, they are free again.

        Raises
        ------
        LimitError
            If they do not fit; the message begins with `purpose`.
        """
        with self.exclusive():
            address = self._memory.allocate(size, purpose)
            try:
                yield address
            except BaseException:
                self._memory.top = address
                raise

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Free at the end what was reserved while this was open, and keep other threads off the device meanwhile."""
        with self.exclusive():
            top = self._memory.top
            try:
                yield
            finally:
                self._memory.top = top

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory, once no earlier run is at work.

        Raises
        ------
        DeviceTimeout
            If an earlier run does not end.
        """
        with self.exclusive():
            self.settle()
            self.transport.write(address, data)

    @property
    def maps_files(self) -> bool:
        """Whether `map_file` can be used."""
        return isinstance(self.transport, MapsFiles)

    def map_file(self, address: int, path: Path) -> None:
        """Have device memory from an address on show a file, once no earlier run is at work; see `MapsFiles`.

        Raises
        ------
        OSError
            If it can't be mapped.
        DeviceTimeout
            If an earlier run does not end.
        """
        with self.exclusive():
            self.settle()
            assert isinstance(self.transport, MapsFiles)
            self.transport.map_file(address, str(path))

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory, once no earlier run is at work.

        Raises
        ------
        DeviceTimeout
            If an earlier run does not end.
        """
        with self.exclusive():
            self.settle()
            return self.transport.read(address, size)

    def run(self, commands: Sequence[bytes], queue: int, weight_bytes: int = 0) -> Counters:
        """Run a command list and wait until it is done.

        Parameters
        ----------
        commands : sequence of bytes
        queue : int
            Address to write them to, a multiple of 64.
        weight_bytes : int
            Bytes of the model that the commands use, for the counters.

        Returns
        -------
        Counters
            Those of this run, also added to `counters`.

        Raises
        ------
        DeviceError, DeviceTimeout
        """
        with self.exclusive():
            self.write(queue, b"".join(commands))
            return self.start(queue, len(commands), weight_bytes=weight_bytes)

    def start(self, queue: int, length: int, *, arguments: Sequence[int] = (), weight_bytes: int = 0) -> Counters:
        """Run commands that are in the device's memory, and wait until they are done.

        Parameters
        ----------
        queue : int
            Address of the first command, a multiple of 64.
        length : int
            Commands to run.
        arguments : sequence of int
            What the first of the program's arguments are set to (``ARGUMENT_0`` and following); the others stay as they are.
        weight_bytes : int
            Bytes of the model that the commands use, for the counters.

        Returns
        -------
        Counters
            Those of this run, also added to `counters`.

        Raises
        ------
        DeviceError, DeviceTimeout
        """
        transport = self.transport
        with self.exclusive():
            self.settle()
            for index, value in enumerate(arguments):
                transport.write_register(offset(f"ARGUMENT_{index}"), value)
            transport.write_register(offset("QUEUE_ADDRESS_LO"), queue & 0xFFFF_FFFF)
            transport.write_register(offset("QUEUE_ADDRESS_HI"), queue >> 32)
            transport.write_register(offset("QUEUE_LENGTH"), length)
            self._access.settled = False
            transport.write_register(offset("AP_CTRL"), AP_START)
            transport.wait(self.timeout)
            self._acknowledge()
            self._access.settled = True
            counters, error = read_outcome(transport, weight_bytes)
            self.counters += counters
        if error is not None:
            raise error
        return counters

    def _acknowledge(self) -> None:
        """Clear the interrupt if it is pending (writing toggles it). Done needs no clearing: the next start does it."""
        pending = self.transport.read_register(offset("ISR"))
        if pending:
            self.transport.write_register(offset("ISR"), pending)


def _pieces(transport: Transport, geometry: Geometry) -> Sequence[Piece]:
    """What the transport's memory is made of, as the device sees it."""
    if not isinstance(transport, Placed):
        return (Piece(0, min(transport.memory_size, 1 << geometry.address_width)),)
    pieces = transport.pieces
    end = max(piece.bus_address + piece.size for piece in pieces)
    if end > 1 << geometry.address_width:
        raise ConfigError(
            f"the memory of {transport.name} ends at {end:#x} on the device's memory bus, and this build drives"
            f" {geometry.address_width} address bits: place the buffer lower, or build with"
            f" address_width={(end - 1).bit_length()}"
        )
    if len(pieces) > 1 and geometry.channels == 1:
        raise ConfigError(
            f"the memory of {transport.name} is in {len(pieces)} pieces, and this build has one memory port, which needs it in"
            " one: give one of them, or use a build of several ports"
        )
    return pieces
