"""What a driver needs of a device: its memory, its registers, and a way to wait."""

from typing import Protocol, runtime_checkable


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
