"""What devices with mapped registers and an interrupt have in common, whatever their memory is reached through."""

from typing import Self

from tailrace.spec.errors import LinkError
from tailrace.spec.transport import RegisterByRegister

from .interrupt import InterruptWait
from .mapped_registers import MappedRegisters


class MappedDevice(RegisterByRegister):
    """The registers and the interrupt of a transport; its memory is the subclass' own.

    A subclass sets `_registers` and `_wait` when it opens the device, and extends `close`.
    """

    _registers: MappedRegisters | None = None
    _wait: InterruptWait

    @property
    def statistics(self) -> dict[str, int]:
        """Interrupts that arrived, and that should have."""
        return self._wait.statistics

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset."""
        return self._open_registers().read(offset)

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        self._open_registers().write(offset, value)

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is raised.

        Raises
        ------
        DeviceTimeout
            If there was no progress for `timeout` seconds.
        """
        self._wait.wait(timeout)

    def close(self) -> None:
        """Release the device. Closing twice is harmless."""
        registers, self._registers = self._registers, None
        if registers is not None:
            registers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_registers(self) -> MappedRegisters:
        if self._registers is None:
            raise LinkError("the device is closed")
        return self._registers
