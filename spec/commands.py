"""Commands as bytes: encoding, decoding, modifiers, and what a device answers to a bad one."""

import struct
from collections.abc import Mapping, Sequence

from .config import Config
from .errors import ConfigError, ErrorCode
from .formats import BY_NUMBER, I8
from .isa import (
    ADDRESS_UNIT,
    COMMAND_BYTES,
    COMMAND_WORDS,
    FIELDS,
    MAX_COMMANDS,
    MODIFIABLE,
    MODIFIERS,
    Field,
    Opcode,
)
from .registers import PAGE_BYTES

_FLOATS = {Opcode.ELEMENTWISE: ("p", "q", "m", "n")}
_ADDRESSES = ("source", "destination", "scales")


def float_bits(value: float) -> int:
    """Bits of a float32."""
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def encode(opcode: Opcode, **values: int) -> bytes:
    """Encode a command.

    Parameters
    ----------
    opcode : Opcode
    **values : int
        The command's fields; those left out are 0. Signed fields take negative numbers.

    Returns
    -------
    bytes
        64 bytes.

    Raises
    ------
    ValueError
        If a field is not one of the command's, or a value does not fit its field.
    """
    fields = {f.name: f for f in FIELDS[opcode]}
    word = 0
    for name, value in {"opcode": int(opcode), **values}.items():
        if name not in fields:
            raise ValueError(
                f"{opcode.name} has no field {name!r}: choose from {', '.join(n for n in fields if n != 'opcode')}"
            )
        field = fields[name]
        low, high = (-(1 << field.width - 1), (1 << field.width - 1) - 1) if field.signed else (0, (1 << field.width) - 1)
        if not low <= value <= high:
            raise ValueError(f"{name} of {opcode.name} must be {low} to {high}, not {value}")
        word |= (value & (1 << field.width) - 1) << field.position
    return word.to_bytes(COMMAND_BYTES, "little")


def decode(command: bytes) -> tuple[Opcode, dict[str, int]] | None:
    """Decode a command; None if the opcode is unknown. Reserved bits are ignored here; `check` looks at them."""
    if len(command) != COMMAND_BYTES:
        raise ValueError(f"a command has {COMMAND_BYTES} bytes, not {len(command)}")
    word = int.from_bytes(command, "little")
    try:
        opcode = Opcode(word & 0xFF)
    except ValueError:
        return None
    return opcode, {f.name: _extract(word, f) for f in FIELDS[opcode] if f.name != "opcode"}


def _extract(word: int, field: Field) -> int:
    value = word >> field.position & ((1 << field.width) - 1)
    return value - (1 << field.width) if field.signed and value >> field.width - 1 else value


def resolve(command: bytes, registers: Sequence[int]) -> bytes:
    """Apply a command's modifiers.

    Parameters
    ----------
    command : bytes
    registers : sequence of int
        The 32 registers.

    Returns
    -------
    bytes
        The command with the registers added to its words, and without modifiers. Unchanged if it can not have modifiers.
    """
    if command[0] not in MODIFIABLE:
        return command
    words = list(struct.unpack(f"<{COMMAND_WORDS}I", command))
    modifiers = words[-1]
    words[-1] = modifiers >> 9 * MODIFIERS << 9 * MODIFIERS
    for i in range(MODIFIERS):
        word, register = modifiers >> 9 * i & 15, modifiers >> 9 * i + 4 & 31
        if 1 <= word < COMMAND_WORDS - 1:
            words[word] = words[word] + registers[register] & 0xFFFF_FFFF
    return struct.pack(f"<{COMMAND_WORDS}I", *words)


def reserved_mask(opcode: Opcode) -> int:
    """The bits of a command that must be zero, as a 512-bit integer."""
    mask = (1 << 8 * COMMAND_BYTES) - 1
    for field in FIELDS[opcode]:
        mask &= ~(((1 << field.width) - 1) << field.position)
    return mask


def limits(config: Config) -> dict[str, int]:
    """The bounds of fields that depend on the build: largest values, and ``beat``, of which some are multiples."""
    return {
        "slot": config.right_hand_sides - 1,
        "slots": config.right_hand_sides,
        "block": config.vector_blocks - 1,
        "blocks": config.vector_blocks,
        "entry": config.buffer_entries - 1,
        "entries": config.buffer_entries,
        "address": min((1 << config.address_width) // ADDRESS_UNIT, 1 << 32) - 1,
        "format": max(BY_NUMBER),
        "beat": config.beat_units,
    }


def check(command: bytes, config: Config) -> ErrorCode:
    """Say what a build answers to a command, its modifiers applied, before it executes it.

    `BAD_OPCODE`; else `BAD_FIELD` for a reserved bit, an unknown format, a stride with a format other than I8, or any field
    that says so; else `OUT_OF_RANGE` for any field that says so (`spec.isa.Field`).
    """
    decoded = decode(command)
    if decoded is None:
        return ErrorCode.BAD_OPCODE
    opcode, values = decoded
    bounds = limits(config)
    wrong = {f.error for f in FIELDS[opcode] if f.name != "opcode" and not _fits(f, values[f.name], bounds)}
    if (
        int.from_bytes(command, "little") & reserved_mask(opcode)
        or ErrorCode.BAD_FIELD in wrong
        or _bad_product(opcode, values)
    ):
        return ErrorCode.BAD_FIELD
    return ErrorCode.OUT_OF_RANGE if wrong else ErrorCode.NONE


def _fits(field: Field, value: int, bounds: Mapping[str, int]) -> bool:
    maximum = bounds[field.maximum] if isinstance(field.maximum, str) else field.maximum
    multiple = bounds[field.multiple] if isinstance(field.multiple, str) else field.multiple
    return (field.minimum == 0 or value >= field.minimum) and (maximum is None or value <= maximum) and value % multiple == 0


def _bad_product(opcode: Opcode, values: Mapping[str, int]) -> bool:
    if opcode is not Opcode.GEMV:
        return False
    return values["format"] not in BY_NUMBER or (values["stride"] != 0 and values["format"] != I8.number)


def format_command(command: bytes) -> str:
    """One line of text for a command: its opcode and the fields that are not 0."""
    decoded = decode(command)
    if decoded is None:
        return f"invalid command {struct.unpack('<I', command[:4])[0]:#010x}"
    opcode, fields = decoded
    shown = (_show(opcode, n, v, fields) for n, v in fields.items() if v)
    return " ".join([opcode.name, *(text for text in shown if text)])


def _show(opcode: Opcode, name: str, value: int, fields: Mapping[str, int]) -> str:
    if name in _ADDRESSES:
        return f"{name}={value * ADDRESS_UNIT:#x}"
    if name in _FLOATS.get(opcode, ()):
        position = _FLOATS[opcode].index(name)
        if fields["load"] >> position & 1:
            return f"{name}=[{value}]"
        return f"{name}={struct.unpack('<f', struct.pack('<I', value))[0]:g}"
    if name.startswith("modifier_word_"):
        return f"word{value}+=r{fields[name.replace('word', 'register')]}"
    return "" if name.startswith("modifier_") else f"{name}={value}"


def check_queue(
    address: int,
    length: int,
    config: Config,
    base: int = 0,
    limit: int = 0,
    memory_bytes: int | None = None,
    other_bases: Sequence[int] = (),
) -> ErrorCode:
    """Say what a build answers to a queue, ``BASE`` and ``LIMIT`` before it reads the first command (with command index 0).

    `OUT_OF_RANGE` if the length or an address exceeds the build's limits, or the memory that a program may use ends behind the
    last address, of any channel, or behind the memory that the build was told of (`memory_bytes`, as on boards); else
    `MISALIGNED` if the queue's address is not a multiple of 64, ``BASE`` or ``BASE_n`` (`other_bases`; without them, as
    ``BASE``) not one of `PAGE_BYTES`, or ``LIMIT`` not one of a page of every channel. An empty queue is a run that finishes
    at once.
    """
    end, bases, row = memory_bytes or 1 << config.address_width, [base, *other_bases], PAGE_BYTES * config.channels
    pages = limit // row or (0 if config.channels == 1 else end // row)
    if (
        length > MAX_COMMANDS
        or address >> config.address_width
        or pages * row > end
        or any(base >= end or (base // PAGE_BYTES + pages) * PAGE_BYTES > end for base in bases)
    ):
        return ErrorCode.OUT_OF_RANGE
    misaligned = address % ADDRESS_UNIT or limit % row or any(base % PAGE_BYTES for base in bases)
    return ErrorCode.MISALIGNED if misaligned else ErrorCode.NONE


def one_base(bases: Sequence[int]) -> int:
    """The base of all channels, for devices that have one memory for all of them.

    Raises
    ------
    ConfigError
        If the bases differ.
    """
    base, *others = bases
    if any(other != base for other in others):
        shown = ", ".join(f"{value:#x}" for value in bases)
        raise ConfigError(f"the channels' bases must be equal on this device, which has one memory for all, not {shown}")
    return base


def reach(base: int, limit: int, config: Config, memory_bytes: int | None = None) -> int:
    """Bytes that a program may use, from ``BASE`` on, all channels together, if `check_queue` finds nothing wrong."""
    return limit or (memory_bytes or 1 << config.address_width) - (base if config.channels == 1 else 0)
