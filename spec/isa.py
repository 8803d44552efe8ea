"""The instruction set: commands of 64 bytes, read from a queue in device memory.

A command is sixteen little-endian 32-bit words. Word 0 holds the opcode in its lowest byte. Every bit that is not part of a
field of the command must be zero. Commands execute in order; each sees what the ones before it left in vector slots and in the
result buffer. What a command wrote to *memory* is seen by later commands only after a `FENCE`.

Versions: the major number changes when an old program would no longer run, the minor one when commands are added.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from .config import Config
from .errors import ErrorCode
from .formats import BLOCK, BY_NUMBER
from .vector import ALIGNMENT

ISA_MAJOR, ISA_MINOR = 1, 0
#: Value of the ``ISA_VERSION`` register.
ISA_VERSION = ISA_MAJOR << 16 | ISA_MINOR

COMMAND_BYTES = 64
COMMAND_WORDS = COMMAND_BYTES // 4
#: Commands in a queue.
MAX_COMMANDS = (1 << 16) - 1
#: Rows of a matrix, and floats of a store.
MAX_ROWS = (1 << 24) - 1
#: Blocks in one lane's stream of a matrix: ``ceil(rows / LANES) * blocks``.
MAX_STREAM_BLOCKS = (1 << 30) - 1
#: Largest distance between the elements that QUANTISE reads.
MAX_STRIDE = 4


@dataclass(frozen=True)
class Field:
    """A field of a command: `width` bits from bit `low` of word `word` on, across following words if it is wider."""

    name: str
    word: int
    low: int
    width: int
    doc: str

    @property
    def position(self) -> int:
        """Bit position of the field in the command."""
        return 32 * self.word + self.low


class Opcode(IntEnum):
    """What a command does. Zero is invalid, so that cleared memory is not a program."""

    FENCE = 1
    LOAD_VECTOR = 2
    GEMV = 3
    QUANTISE = 4
    STORE = 5


_OPCODE = Field("opcode", 0, 0, 8, "what to do")
_SOURCE = Field("source", 2, 0, 64, "address to read from, a multiple of 64")
_DESTINATION = Field("destination", 4, 0, 64, "address to write to, a multiple of 64")
_OFFSET = Field("offset", 1, 0, 32, "first entry in the result buffer")
_BLOCKS = Field("blocks", 7, 0, 32, "blocks of 32 elements, 1 to MAX_BLOCKS")
_SLOT = Field("slot", 0, 24, 8, "vector slot, below RIGHT_HAND_SIDES")

FIELDS: dict[Opcode, tuple[Field, ...]] = {
    Opcode.FENCE: (_OPCODE,),
    Opcode.LOAD_VECTOR: (_OPCODE, _SLOT, _SOURCE, _BLOCKS),
    Opcode.GEMV: (
        _OPCODE,
        Field("keep", 0, 8, 1, "1: results go to the result buffer at `offset`; 0: to memory at `destination`"),
        Field("format", 0, 16, 8, "number of the weight format"),
        Field("slots", 0, 24, 8, "vector slots 0 to slots-1 are multiplied, 1 to RIGHT_HAND_SIDES"),
        _OFFSET,
        _SOURCE,
        _DESTINATION,
        Field("rows", 6, 0, 32, "rows of the matrix, 1 to MAX_ROWS; ceil(rows / LANES) * blocks is below 2**30"),
        _BLOCKS,
    ),
    Opcode.QUANTISE: (
        _OPCODE,
        _SLOT,
        _OFFSET,
        _BLOCKS,
        Field("stride", 8, 0, 32, "distance between elements in the result buffer, 1 to 4"),
    ),
    Opcode.STORE: (_OPCODE, _OFFSET, _DESTINATION, Field("rows", 6, 0, 32, "float32 entries to write, 1 to MAX_ROWS")),
}

DOCS: dict[Opcode, str] = {
    Opcode.FENCE: "Wait until everything before it has finished and every write has been acknowledged by the memory.",
    Opcode.LOAD_VECTOR: "Read a block-floating-point vector of `blocks` blocks at `source` into vector slot `slot`.",
    Opcode.GEMV: (
        "Multiply the matrix whose stream starts at `source` with the first `blocks` blocks of vector slots 0 to `slots`-1. The"
        " result of row `r` and slot `s` is float32 number `r * slots + s`, in memory from `destination` on (exactly"
        " `4 * rows * slots` bytes are written), or in the result buffer from `offset` on."
    ),
    Opcode.QUANTISE: (
        "Quantise entries `offset + i * stride` of the result buffer, for i from 0 to 32 * `blocks` - 1, to a"
        " block-floating-point vector in vector slot `slot`."
    ),
    Opcode.STORE: "Write `rows` entries of the result buffer from `offset` on to memory at `destination`.",
}


def encode(opcode: Opcode, **values: int) -> bytes:
    """Encode a command.

    Parameters
    ----------
    opcode : Opcode
    **values : int
        The command's fields; those left out are 0.

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
        if not 0 <= value < 1 << fields[name].width:
            raise ValueError(f"{name} of {opcode.name} must be 0 to {(1 << fields[name].width) - 1}, not {value}")
        word |= value << fields[name].position
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
    return opcode, {f.name: word >> f.position & ((1 << f.width) - 1) for f in FIELDS[opcode] if f.name != "opcode"}


def reserved_mask(opcode: Opcode) -> int:
    """The bits of a command that must be zero, as a 512-bit integer."""
    mask = (1 << 8 * COMMAND_BYTES) - 1
    for field in FIELDS[opcode]:
        mask &= ~(((1 << field.width) - 1) << field.position)
    return mask


def check(command: bytes, config: Config) -> ErrorCode:
    """Say what a build answers to a command before it executes it.

    The first of `BAD_OPCODE`, `BAD_FIELD`, `OUT_OF_RANGE` and `MISALIGNED` that applies. For a command that `keep`s its results
    the destination, and otherwise the offset, is checked like any other field but not used, apart from the range of the
    result buffer, which is only checked for those that use it.
    """
    decoded = decode(command)
    if decoded is None:
        return ErrorCode.BAD_OPCODE
    opcode, fields = decoded
    if int.from_bytes(command, "little") & reserved_mask(opcode) or _bad_field(opcode, fields, config):
        return ErrorCode.BAD_FIELD
    if _out_of_range(opcode, fields, config):
        return ErrorCode.OUT_OF_RANGE
    if any(fields.get(name, 0) % ALIGNMENT for name in ("source", "destination")):
        return ErrorCode.MISALIGNED
    return ErrorCode.NONE


def _bad_field(opcode: Opcode, fields: Mapping[str, int], config: Config) -> bool:
    if fields.get("slot", 0) >= config.right_hand_sides:
        return True
    return opcode is Opcode.GEMV and (fields["format"] not in BY_NUMBER or not 1 <= fields["slots"] <= config.right_hand_sides)


def _out_of_range(opcode: Opcode, fields: Mapping[str, int], config: Config) -> bool:
    if any(fields.get(name, 0) >> config.address_width for name in ("source", "destination")):
        return True
    if not 1 <= fields.get("blocks", 1) <= config.vector_blocks or not 1 <= fields.get("rows", 1) <= MAX_ROWS:
        return True
    if not 1 <= fields.get("stride", 1) <= MAX_STRIDE:
        return True
    if opcode is Opcode.GEMV:
        if -(-fields["rows"] // config.lanes) * fields["blocks"] > MAX_STREAM_BLOCKS:
            return True
        entries = fields["offset"] + fields["rows"] * fields["slots"] if fields["keep"] else 0
    elif opcode is Opcode.QUANTISE:
        entries = fields["offset"] + fields["blocks"] * BLOCK * fields["stride"]
    elif opcode is Opcode.STORE:
        entries = fields["offset"] + fields["rows"]
    else:
        entries = 0
    return entries > config.result_entries


def format_command(command: bytes) -> str:
    """One line of text for a command, for error messages and traces."""
    decoded = decode(command)
    if decoded is None:
        return f"invalid command {struct.unpack('<I', command[:4])[0]:#010x}"
    opcode, fields = decoded
    shown = (f"{n}={v:#x}" if n in ("source", "destination") else f"{n}={v}" for n, v in fields.items())
    return f"{opcode.name} {' '.join(shown)}".rstrip()


def check_queue(address: int, length: int, config: Config) -> ErrorCode:
    """Say what a build answers to a queue before it reads the first command (reported with command index 0).

    `OUT_OF_RANGE` if the length or the address exceeds the build's limits, else `MISALIGNED` if the address is not a multiple
    of 64. An empty queue is a run that finishes at once.
    """
    if length > MAX_COMMANDS or address >> config.address_width:
        return ErrorCode.OUT_OF_RANGE
    return ErrorCode.MISALIGNED if address % ALIGNMENT else ErrorCode.NONE
