"""The commands of a program, with the registers that are added to them."""

import struct
from collections.abc import Mapping, Sequence

from tailrace.spec.commands import decode
from tailrace.spec.isa import COMMAND_WORDS, FIELDS, MODIFIABLE, MODIFIERS, Opcode

#: Bits of a modifier, and of the word in it.
_MODIFIER_BITS, _WORD_BITS = 9, 4


class Command:
    """A command of a program.

    Parameters
    ----------
    code : bytes
        64 bytes.

    Attributes
    ----------
    opcode : Opcode
    modifiers : tuple of (int, int)
        The word that a register is added to, and the register.
    """

    def __init__(self, code: bytes) -> None:
        decoded = decode(code)
        if decoded is None:
            raise ValueError(f"opcode {code[0]} is none: a prediction needs a program that runs")
        self.opcode, self._fields = decoded
        self._words = struct.unpack(f"<{COMMAND_WORDS}I", code)
        packed = self._words[-1] if self.opcode in MODIFIABLE else 0
        found = ((packed >> _MODIFIER_BITS * n) & ((1 << _MODIFIER_BITS) - 1) for n in range(MODIFIERS))
        self.modifiers = tuple((m & ((1 << _WORD_BITS) - 1), m >> _WORD_BITS) for m in found if m & ((1 << _WORD_BITS) - 1))
        changed = {word for word, _ in self.modifiers}
        self._changed = [f for f in FIELDS[self.opcode] if f.word in changed and f.name != "opcode"]

    def fields(self, registers: Sequence[int]) -> Mapping[str, int]:
        """The command's fields as it is carried out."""
        if not self.modifiers:
            return self._fields
        words = list(self._words)
        for word, register in self.modifiers:
            words[word] = (words[word] + registers[register]) & 0xFFFF_FFFF
        fields = dict(self._fields)
        for f in self._changed:
            value = (words[f.word] >> f.low) & ((1 << f.width) - 1)
            fields[f.name] = value - (1 << f.width) if f.signed and value >> (f.width - 1) else value
        return fields

    @property
    def target(self) -> int | None:
        """Of a `LOOP`, where it goes on; None for other commands."""
        return self._fields["target"] if self.opcode is Opcode.LOOP else None
