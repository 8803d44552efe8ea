"""How the fields of a command are written as text, and read back."""

import re
import struct
from collections.abc import Mapping
from enum import IntEnum

from tailrace.spec.commands import float_bits
from tailrace.spec.errors import TailraceError
from tailrace.spec.floats import Function
from tailrace.spec.formats import BY_NAME, BY_NUMBER
from tailrace.spec.isa import ADDRESS_UNIT, Cache, Combine, Field, Multiplier, Opcode, Reduce, SetMode, Target

#: Fields that stand for one of several things.
NAMES: dict[tuple[Opcode, str], type[IntEnum]] = {
    (Opcode.ELEMENTWISE, "combine"): Combine,
    (Opcode.ELEMENTWISE, "function"): Function,
    (Opcode.ELEMENTWISE, "multiplier"): Multiplier,
    (Opcode.ELEMENTWISE, "reduce"): Reduce,
    (Opcode.ELEMENTWISE, "target"): Target,
    (Opcode.APPEND, "cache"): Cache,
    (Opcode.SET, "mode"): SetMode,
}
#: Fields that hold addresses, and distances between addresses, in units of 64 bytes; they are written in bytes.
IN_BYTES = ("source", "destination", "scales", "head_stride", "row_stride", "scale_stride")
#: Scalars: a float, or in brackets the entry of the buffer that holds it; with a ``+`` behind it each segment has the next one.
SCALARS = ("p", "q", "m", "n")
REGISTER_FIELDS = ("register", "x", "y")

_REGISTER = re.compile(r"r(\d+)")


class AssemblyError(TailraceError, ValueError):
    """A text is not a program."""


def number(text: str) -> int:
    """Read a whole number, decimal or with ``0x``."""
    try:
        return int(text, 0)
    except ValueError:
        raise AssemblyError(f"{text!r} is no whole number") from None


def register(text: str) -> int:
    """Read the name of a register."""
    match = _REGISTER.fullmatch(text)
    if not match:
        raise AssemblyError(f"{text!r} is no register: write r0 to r31")
    return int(match[1])


def _is_bytes(opcode: Opcode, name: str) -> bool:
    return name in IN_BYTES or (opcode is Opcode.GEMV and name == "stride")


def write_field(opcode: Opcode, field: Field, values: Mapping[str, int]) -> str:
    """The value of a field as text."""
    name, value = field.name, values[field.name]
    if (opcode, name) in NAMES and value in list(NAMES[opcode, name]):
        return NAMES[opcode, name](value).name.lower()
    if name == "format" and value in BY_NUMBER:
        return BY_NUMBER[value].name
    if opcode is Opcode.ELEMENTWISE and name in SCALARS:
        bit = SCALARS.index(name)
        text = f"[{value}]" if values["load"] >> bit & 1 else _write_float(value)
        return text + "+" * (values["advance"] >> bit & 1)
    if name in REGISTER_FIELDS or (opcode is Opcode.READ and name == "register"):
        return f"r{value}"
    return f"{value * ADDRESS_UNIT:#x}" if _is_bytes(opcode, name) else str(value)


def read_field(opcode: Opcode, field: Field, text: str) -> dict[str, int]:
    """The value of a field, and of the fields that go with it, from text."""
    name = field.name
    if (opcode, name) in NAMES and not text[0].isdigit():
        names = NAMES[opcode, name]
        if text.upper() not in names.__members__:
            raise AssemblyError(f"{name} is one of {', '.join(names.__members__).lower()}, not {text!r}")
        return {name: int(names[text.upper()])}
    if name == "format" and not text[0].isdigit():
        if text not in BY_NAME:
            raise AssemblyError(f"format is one of {', '.join(BY_NAME)}, not {text!r}")
        return {name: BY_NAME[text].number}
    if opcode is Opcode.ELEMENTWISE and name in SCALARS:
        return _read_scalar(name, text)
    if name in REGISTER_FIELDS:
        return {name: register(text)}
    value = number(text)
    if _is_bytes(opcode, name):
        if value % ADDRESS_UNIT:
            raise AssemblyError(f"{name} must be a multiple of {ADDRESS_UNIT} bytes, not {text}")
        value //= ADDRESS_UNIT
    return {name: value}


def _write_float(bits: int) -> str:
    value = struct.unpack("<f", struct.pack("<I", bits))[0]
    # The shortest decimal number that is read back as the same float32.
    text = next((t for t in (f"{value:.{digits}g}" for digits in range(1, 10)) if _bits_of(t) == bits), "")
    return text or f"{bits:#x}"


def _bits_of(text: str) -> int | None:
    try:
        return float_bits(float(text))
    except (ValueError, OverflowError):
        return None


def _read_scalar(name: str, text: str) -> dict[str, int]:
    bit, body = 1 << SCALARS.index(name), text.removesuffix("+")
    values = {"advance": bit} if text.endswith("+") else {}
    if body.startswith("[") and body.endswith("]"):
        return {name: number(body[1:-1]), "load": bit, **values}
    bits = number(body) if body.startswith("0x") else _bits_of(body)
    if bits is None:
        raise AssemblyError(f"{name} is a float32, or an entry as in [64], not {text!r}")
    return {name: bits, **values}
