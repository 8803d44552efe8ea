"""What a driver needs of a device: its memory, its registers, and a way to wait."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

#: Bytes from one register to the next.
REGISTER_BYTES = 4


@runtime_checkable
class Transport(Protocol):
    """A device that a driver can open: golden, Verilated, or hardware.

    All addresses are byte addresses, all data little endian.
    """

    @property
    def name(self) -> str:
        """Name for reports, such as ``golden`` or ``verilator``."""
        ...

    @property
    def memory_size(self) -> int:
        """Bytes of device memory, from address 0 on."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether cycles are those of a simulation."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        ...

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory."""
        ...

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset."""
        ...

    def read_registers(self, offset: int, count: int) -> list[int]:
        """Read 32-bit registers one after the other, in as few round trips as it takes.

        Parameters
        ----------
        offset : int
            Byte offset of the first one.
        count : int
            How many, at least 1. Offsets without a register count as well; they read 0.

        Returns
        -------
        list of int
            In the order of their offsets. They are read at different moments, and perhaps more than once: ask only for
            registers that reading does not change, so not for ``AP_CTRL``, and for those of more than 32 bits only while they
            stand still.
        """
        ...

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        ...

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is raised.

        Parameters
        ----------
        timeout : float
            Seconds without progress after which to give up.

        Raises
        ------
        DeviceTimeout
            If nothing happened for `timeout` seconds.
        """
        ...

    def close(self) -> None:
        """Release the device. Closing twice is harmless."""
        ...


@runtime_checkable
class MapsFiles(Protocol):
    """A device whose memory is the host's, so that files can be mapped into it."""

    def map_file(self, address: int, path: str) -> None:
        """Have device memory from an address on show a file. What is written there stays the device's own.

        Parameters
        ----------
        address : int
            A multiple of the host's page size.
        path : str

        Raises
        ------
        OSError
            If the file can't be mapped.
        """
        ...


@runtime_checkable
class Striped(Protocol):
    """A device whose bytes the transport finds in the memories of all channels, over which they are striped.

    Of other transports the memory is one that all channels reach, and the driver gives each of them a part.
    """

    @property
    def striped(self) -> bool:
        """Whether it does; false is as a transport without this attribute."""
        ...


class Piece(NamedTuple):
    """Memory that lies in a row on a device's memory bus.

    Attributes
    ----------
    bus_address : int
        Where it begins there, a multiple of 4096.
    size : int
        Bytes.
    """

    bus_address: int
    size: int


@runtime_checkable
class Placed(Protocol):
    """A device whose memory is elsewhere on its memory bus than from address 0 on, or not in a row."""

    @property
    def pieces(self) -> Sequence[Piece]:
        """What the transport's memory is made of, in the order of its addresses. The registers BASE count from there."""
        ...


class RegisterByRegister(ABC):
    """`Transport.read_registers` for devices to which each register is as near as the last one."""

    @abstractmethod
    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset."""

    def read_registers(self, offset: int, count: int) -> list[int]:
        """Read 32-bit registers one after the other; see `Transport`."""
        return [self.read_register(offset + REGISTER_BYTES * index) for index in range(count)]
