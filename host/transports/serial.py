"""A board on a serial port as a device that a driver can open."""

from typing import Self

from tailrace.spec.errors import LinkError

#: Bits per second that the boards of this project are built for.
BAUD = 3_000_000


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

    Raises
    ------
    ToolError
        If pyserial is not installed.
    LinkError
        If the port does not exist, is busy, or no board answers. Every other method raises it when the link fails.
    """

    def __init__(self, port: str, *, baud: int = BAUD, patience: float = 0.1) -> None:
        raise LinkError("not written yet")

    @property
    def name(self) -> str:
        """``serial:`` and the port."""
        raise NotImplementedError

    @property
    def memory_size(self) -> int:
        """Bytes of device memory, as the board says."""
        raise NotImplementedError

    @property
    def simulated(self) -> bool:
        """False: cycles are those of hardware."""
        return False

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        raise NotImplementedError

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory."""
        raise NotImplementedError

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset, once."""
        raise NotImplementedError

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset, once."""
        raise NotImplementedError

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is raised.

        Raises
        ------
        DeviceTimeout
            If there was no transfer on the device's memory bus for `timeout` seconds.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release the port. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
