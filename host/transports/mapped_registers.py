"""Registers that a kernel driver lets a process map."""

import mmap
from pathlib import Path

import numpy as np

from tailrace.spec.errors import DeviceClosed, LinkError
from tailrace.spec.registers import ADDRESS_BITS

_BYTES = 1 << ADDRESS_BITS


class MappedRegisters:
    """The registers of ``s_axi_control``, mapped into this process.

    Each access is one aligned 32-bit access of the bus: some registers change when they are read.

    Parameters
    ----------
    file : int
        Descriptor of the device file.
    path : Path
        Its name, for messages.
    page_offset : int
        Where to map the file from, a multiple of a page.
    offset : int
        Byte of the map at which the registers begin, a multiple of 4.

    Raises
    ------
    LinkError
        If they can't be mapped.
    """

    def __init__(self, file: int, path: Path, page_offset: int = 0, offset: int = 0) -> None:
        if offset % 4 or offset < 0:
            raise LinkError(f"the registers in {path} must begin at a multiple of 4, not at {offset:#x}")
        pages = offset // mmap.PAGESIZE * mmap.PAGESIZE
        first = offset - pages
        try:
            self._map: mmap.mmap | None = mmap.mmap(file, first + _BYTES, offset=page_offset + pages)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise LinkError(
                f"{_BYTES} bytes of registers at {offset:#x} in {path} can't be mapped: {reason}. Check that the design maps"
                " s_axi_control there, with a range of at least 4 KiB"
            ) from None
        self._words = np.frombuffer(self._map, dtype="<u4", count=_BYTES // 4, offset=first)

    def read(self, offset: int) -> int:
        """Read the register at a byte offset."""
        return int(self._words[self._index(offset)])

    def write(self, offset: int, value: int) -> None:
        """Write the register at a byte offset."""
        self._words[self._index(offset)] = value

    def close(self) -> None:
        """Unmap them. Closing twice is harmless."""
        mapped, self._map = self._map, None
        if mapped is not None:
            self._words = np.empty(0, dtype="<u4")
            mapped.close()

    def _index(self, offset: int) -> int:
        if self._map is None:
            raise DeviceClosed
        if offset % 4 or not 0 <= offset < _BYTES:
            raise LinkError(f"register offsets are multiples of 4 below {_BYTES:#x}, not {offset:#x}")
        return offset // 4
