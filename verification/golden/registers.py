"""The registers of a program, and the commands that change them: `SET` and `LOOP`."""

from collections.abc import Mapping, Sequence

from tailrace.spec.isa import ARGUMENTS, FIRST_ARGUMENT, REGISTERS, SetMode

_WORD = 0xFFFF_FFFF


class ProgramRegisters:
    """The 32 registers; r0 stays 0.

    Parameters
    ----------
    arguments : sequence of int
        Values of the control registers ``ARGUMENT_n``.
    """

    def __init__(self, arguments: Sequence[int]) -> None:
        self.values = [0] * REGISTERS
        self.values[FIRST_ARGUMENT : FIRST_ARGUMENT + ARGUMENTS] = arguments

    def assign(self, register: int, value: int) -> None:
        """Set a register."""
        if register:
            self.values[register] = value & _WORD

    def set(self, fields: Mapping[str, int]) -> None:
        """Carry out a `SET`."""
        x, y, limit = self.values[fields["x"]], self.values[fields["y"]], fields["limit"]
        value = (x * fields["factor"] + y + fields["addend"] & _WORD) >> fields["shift"]
        if fields["mode"] == SetMode.MINIMUM:
            value = min(value, limit)
        elif fields["mode"] == SetMode.WRAP and value >= limit:
            value = 0
        self.assign(fields["register"], value)

    def count_down(self, register: int) -> bool:
        """Carry out the count of a `LOOP`; returns whether to go on with its target."""
        self.assign(register, self.values[register] - 1)
        return self.values[register] != 0
