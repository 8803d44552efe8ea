"""A core in the programmable logic of a Zynq (or another SoC) as a device that a driver can open.

Sources: the kernel's ``Documentation/driver-api/uio-howto.rst`` for ``/dev/uioN``, the read-me file of ``ikwzm/udmabuf`` for
``/dev/udmabufN``.
"""

import mmap
import os
import select
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ConfigError, LinkError
from tailrace.spec.registers import ADDRESS_BITS
from tailrace.spec.transport import Piece
from tailrace.spec.vector import ALIGNMENT

from .device_files import check_span, open_device_file
from .interrupt import InterruptWait
from .mapped_device import MappedDevice
from .mapped_registers import MappedRegisters
from .sizes import parse_size

_DEVICE_TREE = (
    'check that the device tree has a node for the core with compatible = "generic-uio", that the kernel was started with'
    " uio_pdrv_genirq.of_id=generic-uio, and that the bitstream is loaded"
)
_BUFFER = "load u-dma-buf, or add its node to the device tree; ls /sys/class/u-dma-buf shows the buffers that there are"
#: Modes of a u-dma-buf in which the processor's cache holds data back although the file was opened with O_SYNC.
_CACHED = (0, 4)


class UioTransport(MappedDevice):
    """A `tailrace.spec.transport.Transport` over a UIO device and memory that is shared with the processor.

    The device finds the memory by its physical address, which the driver writes to the registers ``BASE``; or the hardware adds
    it: see ``docs/transports.md``.

    Parameters
    ----------
    device : Path or str
        The UIO device, such as ``/dev/uio0``; its first map is ``s_axi_control``.
    memory : str
        A u-dma-buf by its name or file, such as ``udmabuf0``, or physical memory that the kernel does not use, as
        ``ADDRESS+SIZE``, such as ``0x30000000+256MiB``. A build of several memory ports may have several, with colons between.
    base : int or None
        What the hardware adds to the device's addresses, and must be where the memory is; None: nothing, so they are physical.
    events : bool
        Whether the core's interrupt is wired to the processor; if not, its registers are read again and again.
    sysfs, dev : Path
        Where the kernel tells about devices, and where their files are.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    LinkError
        If the device or its memory is missing, can't be opened or is not what the hardware needs.
    """

    def __init__(
        self,
        device: Path | str,
        memory: str,
        *,
        base: int | None = None,
        events: bool = True,
        sysfs: Path = Path("/sys"),
        dev: Path = Path("/dev"),
    ) -> None:
        # Of a buffer without device-name the kernel may begin the name with the bus: amba:udmabuf0.
        names = [memory] if (dev / memory).exists() else memory.split(":")
        if base is not None and len(names) > 1:
            raise ConfigError(
                f"the hardware adds one base, and {memory} is in {len(names)} places: leave base away, or give one memory"
            )
        super().__init__()
        path = Path(device)
        self.name, self.simulated = f"uio:{device}", False
        self._file: int | None = None
        self._buffers: tuple[NDArray[np.uint64], ...] = ()
        try:
            self._file = open_device_file(path, os.O_RDWR | os.O_SYNC, _DEVICE_TREE, alone=True)
            self._registers = MappedRegisters(self._file, path, offset=_first_map(sysfs / "class" / "uio" / path.name, path))
            places = list[Piece]()
            for text in names:
                start, buffer = _map_memory(text, base, sysfs, dev)
                places.append(Piece(start, buffer.nbytes))
                self._buffers += (buffer,)
            _check_apart(memory, places)
        except BaseException:
            self.close()
            raise
        self.memory_size = sum(buffer.nbytes for buffer in self._buffers)
        #: See `tailrace.spec.transport.Placed`.
        self.pieces = tuple(Piece(start - (base or 0), size) for start, size in places)
        self._path = path
        #: Where the interrupt is waited for.
        self._events = self._file
        self._wait = InterruptWait(self.read_register, self._next_event if events else None)

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        check_span("read", address, size, self.memory_size)
        with self._opened():
            return b"".join(
                lines.copy().view(np.uint8)[first : first + count].tobytes()
                for lines, first, count in self._lines(address, size)
            )

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory."""
        source = np.frombuffer(data, dtype=np.uint8)
        check_span("write", address, source.size, self.memory_size)
        # Memory that is not cached may refuse accesses that are not aligned, so lines of 64 bytes go as a whole.
        with self._opened():
            done = 0
            for lines, first, count in self._lines(address, source.size):
                whole = lines.copy() if count % ALIGNMENT or first else np.empty_like(lines)
                whole.view(np.uint8)[first : first + count] = source[done : done + count]
                lines[:] = whole
                done += count

    def _release(self) -> None:
        self._buffers = ()
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _lines(self, address: int, size: int) -> Iterator[tuple[NDArray[np.uint64], int, int]]:
        """In each buffer the lines of 64 bytes that some bytes are in, the first one's place in them, and how many they are."""
        begin = 0
        for buffer in self._buffers:
            low, high = max(address - begin, 0), min(address + size - begin, buffer.nbytes)
            if low < high:
                first, end = low // ALIGNMENT * ALIGNMENT, -(-high // ALIGNMENT) * ALIGNMENT
                yield buffer[first // 8 : end // 8], low - first, high - low
            begin += buffer.nbytes

    def _next_event(self, seconds: float) -> bool:
        try:
            with self._opened():
                poll = select.poll()
                poll.register(self._events, select.POLLIN)
                # The kernel disables the interrupt when it comes, because it does not know how to take it back.
                os.write(self._events, struct.pack("=I", 1))
                return bool(poll.poll(1000 * seconds)) and bool(os.read(self._events, 4))
        except OSError as error:
            raise LinkError(
                f"{self._path} has no interrupt ({error.strerror}): add the core's interrupt to its node in the device tree,"
                " or add wait=poll"
            ) from None


def _first_map(folder: Path, path: Path) -> int:
    """Byte of the first page at which the first map of a UIO device begins."""
    size = _number(folder / "maps" / "map0" / "size", _DEVICE_TREE)
    if size < 1 << ADDRESS_BITS:
        raise LinkError(
            f"{path} is not a Tailrace device: its first map has {size:#x} bytes, and the registers take"
            f" {1 << ADDRESS_BITS:#x}. Check reg in its node of the device tree"
        )
    offset = folder / "maps" / "map0" / "offset"
    return _number(offset, _DEVICE_TREE) if offset.exists() else 0


def _map_memory(text: str, base: int | None, sysfs: Path, dev: Path) -> tuple[int, NDArray[np.uint64]]:
    """Physical address of the memory, and the memory."""
    if "+" in text:
        start, size, path = *_physical(text), dev / "mem"
        file = open_device_file(path, os.O_RDWR | os.O_SYNC, "the kernel must have it (CONFIG_DEVMEM)")
        place = start
        advice = "reserve the memory in the device tree (reserved-memory, no-map), or use u-dma-buf"
    else:
        path = dev / text
        folder = sysfs / "class" / "u-dma-buf" / path.name
        file = open_device_file(path, os.O_RDWR | os.O_SYNC, _BUFFER)
        try:
            start, size = _number(folder / "phys_addr", _BUFFER, 16), _number(folder / "size", _BUFFER)
            _check_cache(folder)
        except BaseException:
            os.close(file)
            raise
        place, advice = 0, "check the size of the buffer"
    try:
        _check_place(text, start, size, base)
        return start, np.frombuffer(mmap.mmap(file, size, offset=place), dtype=np.uint64)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise LinkError(f"{size} bytes of {path} can't be mapped: {reason}. {advice[0].upper()}{advice[1:]}") from None
    finally:
        os.close(file)


def _physical(text: str) -> tuple[int, int]:
    first, _, size = text.partition("+")
    try:
        return int(first, 0), parse_size(size)
    except ValueError:
        raise ConfigError(f"{text!r} is not a range of physical memory: write it like 0x30000000+256MiB") from None


def _check_place(text: str, start: int, size: int, base: int | None) -> None:
    if size <= 0 or size % ALIGNMENT or start % mmap.PAGESIZE:
        raise ConfigError(
            f"the memory {text} has {size} bytes from {start:#x} on: it must begin at a page and have a positive multiple of"
            f" {ALIGNMENT} bytes"
        )
    if base is not None and base != start:
        raise ConfigError(
            f"the memory {text} begins at {start:#x}, but the hardware adds {base:#x} to the device's addresses: place the"
            " buffer there (reserved-memory in the device tree), or build the hardware for the other address"
        )


def _check_apart(text: str, places: Sequence[Piece]) -> None:
    for (start, size), (following, _) in pairwise(sorted(places)):
        if following < start + size:
            raise ConfigError(f"{text} names the memory at {following:#x} twice: give memories that do not overlap")


def _check_cache(folder: Path) -> None:
    coherent = folder / "dma_coherent"
    if coherent.exists() and _number(coherent, _BUFFER):
        return
    mode = _number(folder / "sync_mode", _BUFFER)
    if mode in _CACHED:
        raise LinkError(
            f"the processor's cache stands between {folder.name} and the device (sync_mode {mode}): as root, write 2 to"
            f" {folder / 'sync_mode'}, or add sync-mode = <2> to its node in the device tree"
        )


def _number(path: Path, missing: str, base: int = 0) -> int:
    try:
        return int(path.read_text(encoding="utf-8").strip(), base)
    except OSError as error:
        raise LinkError(f"{path} can't be read ({error.strerror}): {missing}") from None
    except ValueError:
        raise LinkError(f"{path} does not hold a number: {missing}") from None
