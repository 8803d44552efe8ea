"""The registers by their names, over an AXI4-Lite master of cocotbext-axi."""

from collections.abc import Sequence
from typing import Any

from tailrace.golden.machine import Outcome
from tailrace.spec.errors import ErrorCode
from tailrace.spec.registers import AP_START, COUNTERS, offset

_WORD = (1 << 32) - 1


class Registers:
    """The registers of a core.

    Parameters
    ----------
    host : cocotbext.axi.AxiLiteMaster
        Or another master with ``read_dword`` and ``write_dword``.
    base : int
        Address of the first register.
    """

    def __init__(self, host: Any, base: int = 0) -> None:
        self.host, self._base = host, base

    async def get(self, name: str) -> int:
        """Read the register of this name, as in `tailrace.spec.registers`."""
        return int(await self.host.read_dword(self._base + offset(name)))

    async def get_wide(self, name: str) -> int:
        """Read the two registers whose names end with ``_LO`` and ``_HI`` after this one."""
        return await self.get(f"{name}_LO") | await self.get(f"{name}_HI") << 32

    async def set(self, name: str, value: int) -> None:
        """Write the register of this name."""
        await self.host.write_dword(self._base + offset(name), value)

    async def ring(self, queue: int, length: int, arguments: Sequence[int] = ()) -> None:
        """Enable the interrupt and ring the doorbell.

        Parameters
        ----------
        queue : int
            Address of the command queue.
        length : int
            Commands in it.
        arguments : sequence of int
            Values of the argument registers, from the first on.
        """
        for index, value in enumerate(arguments):
            await self.set(f"ARGUMENT_{index}", value)
        await self.set("QUEUE_ADDRESS_LO", queue & _WORD)
        await self.set("QUEUE_ADDRESS_HI", queue >> 32)
        await self.set("QUEUE_LENGTH", length)
        await self.set("GIE", 1)
        await self.set("IER", 1)
        await self.set("AP_CTRL", AP_START)

    async def acknowledge(self) -> None:
        """Take the interrupt back."""
        await self.set("ISR", await self.get("ISR"))

    async def outcome(self) -> Outcome:
        """How the last run ended."""
        address = await self.get_wide("ERROR_ADDRESS")
        return Outcome(ErrorCode(await self.get("ERROR_CODE")), await self.get("ERROR_COMMAND"), address)

    async def counters(self) -> dict[str, int]:
        """All counters of the last run, by their names."""
        return {name: await self.get_wide(name) for name, _ in COUNTERS}
