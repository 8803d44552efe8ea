"""The instruction set: commands of 64 bytes, read from a queue in device memory.

A command is sixteen little-endian 32-bit words. Word 0 holds the opcode in its lowest byte. Every bit that is not part of a
field of the command must be zero.

**Order.** Two units carry commands out, each its own in order: the *matrix unit* (`GEMV`) and the *vector unit*
(`LOAD_VECTOR`, `ELEMENTWISE`, `ROTATE`, `APPEND`, `STORE`, `READ`). What a command sees is what all commands before it left,
if its ``pending`` field is 0. With ``pending = n`` it may start when at most ``n`` of the *other* unit's commands before it
in program order are unfinished (15: whatever that unit does), so that the two can overlap; a program that says so must not
depend on what those commands do, nor change what they use. Weights are fetched ahead of their use across all commands. What a
command wrote to *memory* is seen by the reads of later commands only after a `FENCE`.

**Registers.** There are 32 registers of 32 bits, of which `r0` is always 0, and `r16` to `r23` start as the control registers
``ARGUMENT_0`` to ``ARGUMENT_7``, the others as 0. `SET`, `READ` and `LOOP` change them. Word 15 of every command but these
three may name up to three *modifiers*: modifier ``i`` adds register ``modifier_register_i`` to word ``modifier_word_i`` of
the command (modulo 2**32) before it is looked at. So addresses and lengths depend on loop counts, positions, tokens and
experts.

**Addresses** count from the control register ``BASE`` on, so a program runs wherever its memory is, and are numbers modulo
2**ADDRESS_WIDTH. What a command reads or writes at or behind ``LIMIT`` is not sent to the bus: it ends the run with
`READ_ERROR` or `WRITE_ERROR`, as if the memory had refused it.

**Units.** Addresses and distances in memory are in units of 64 bytes. Those of matrices and of the KV cache are multiples of a
beat, where a beat has more. Offsets in the activation buffer count float32 entries;
what lies beyond its end wraps around to its start, and so do block numbers in the vector slots. Float fields hold the bits of
a float32.

Versions: the major number changes when an old program or driver would no longer run, the minor one when commands or formats are
added.
"""

from dataclasses import dataclass
from enum import IntEnum

from .errors import ErrorCode

ISA_MAJOR, ISA_MINOR = 3, 3
#: Value of the ``ISA_VERSION`` register.
ISA_VERSION = ISA_MAJOR << 16 | ISA_MINOR

COMMAND_BYTES = 64
COMMAND_WORDS = COMMAND_BYTES // 4
#: Commands in a queue.
MAX_COMMANDS = (1 << 16) - 1
#: Bytes in a unit of memory addresses.
ADDRESS_UNIT = 64
#: Offsets and strides of vectors in the activation buffer are multiples of this many entries.
BUFFER_UNIT = 4
#: Elements of a streamed operand in 64 bytes; each segment's part of a stream is padded to them.
STREAM_UNIT = 16
REGISTERS = 32
#: First of the registers that start as the arguments, and their number.
FIRST_ARGUMENT, ARGUMENTS = 16, 8
MODIFIERS = 3
#: Value of ``pending`` that never waits.
ANY_PENDING = 15
MAX_SEGMENTS = (1 << 12) - 1
#: Most elements of a head of keys or values.
MAX_HEAD = 576


class Opcode(IntEnum):
    """What a command does. Zero is invalid, so that cleared memory is not a program."""

    FENCE = 1
    LOAD_VECTOR = 2
    GEMV = 3
    ELEMENTWISE = 4
    STORE = 5
    ROTATE = 6
    APPEND = 7
    SET = 8
    READ = 9
    LOOP = 10


#: Commands of the vector unit.
VECTOR_OPCODES = (Opcode.LOAD_VECTOR, Opcode.ELEMENTWISE, Opcode.STORE, Opcode.ROTATE, Opcode.APPEND, Opcode.READ)
#: Commands whose words registers can be added to.
MODIFIABLE = (Opcode.FENCE, Opcode.LOAD_VECTOR, Opcode.GEMV, Opcode.ELEMENTWISE, Opcode.STORE, Opcode.ROTATE, Opcode.APPEND)


class Combine(IntEnum):
    """First stage of `ELEMENTWISE`."""

    SCALE = 0
    SUM = 1
    PRODUCT = 2
    LIMIT = 3


#: Ways to combine that read operand b.
WITH_B = (Combine.SUM, Combine.PRODUCT)


class Multiplier(IntEnum):
    """What the third stage of `ELEMENTWISE` multiplies with."""

    SCALAR = 0
    STREAM = 1
    B = 2
    A = 3


class Reduce(IntEnum):
    """Reduction of `ELEMENTWISE`."""

    NONE = 0
    SUM = 1
    SUM_OF_SQUARES = 2
    MAXIMUM = 3
    ABSOLUTE_MAXIMUM = 4
    ARGMAX = 5
    ARGMAX_REMOVE = 6


class Target(IntEnum):
    """Where the elements of `ELEMENTWISE` go."""

    NONE = 0
    BUFFER = 1
    SLOT = 2


class Cache(IntEnum):
    """What `APPEND` appends to."""

    KEYS = 0
    VALUES = 1


class SetMode(IntEnum):
    """What `SET` does with its limit."""

    PLAIN = 0
    MINIMUM = 1
    WRAP = 2


@dataclass(frozen=True)
class Field:
    """A field of a command: `width` bits from bit `low` of word `word` on.

    `minimum` and `maximum` bound its value; `maximum` is a number or a name in `tailrace.spec.commands.limits`. `multiple` is
    what it must be a multiple of, a number or such a name. `error` is what the device answers otherwise. `signed` values are
    two's complement.
    """

    name: str
    word: int
    low: int
    width: int
    doc: str
    minimum: int = 0
    maximum: int | str | None = None
    multiple: int | str = 1
    error: ErrorCode = ErrorCode.BAD_FIELD
    signed: bool = False

    @property
    def position(self) -> int:
        """Bit position of the field in the command."""
        return 32 * self.word + self.low


def _count(name: str, word: int, width: int, doc: str, maximum: int | str) -> Field:
    return Field(name, word, 0, width, doc, 1, maximum, error=ErrorCode.OUT_OF_RANGE)


def _address(name: str, word: int, doc: str, multiple: int | str = 1) -> Field:
    return Field(
        name, word, 0, 32, f"{doc}, in units of 64 bytes", maximum="address", multiple=multiple, error=ErrorCode.OUT_OF_RANGE
    )


def _distance(name: str, word: int, doc: str, multiple: int | str = 1) -> Field:
    return Field(name, word, 0, 32, f"{doc}, in units of 64 bytes", multiple=multiple)


def _place(name: str, word: int, low: int, doc: str, multiple: int = BUFFER_UNIT) -> Field:
    return Field(name, word, low, 16, doc, maximum="entry", multiple=multiple, error=ErrorCode.OUT_OF_RANGE)


def _stride(name: str, word: int, low: int, doc: str) -> Field:
    return Field(name, word, low, 16, doc, multiple=BUFFER_UNIT)


_OPCODE = Field("opcode", 0, 0, 8, "what to do")
_PENDING = Field(
    "pending", 0, 8, 4, "commands of the other unit before this one that may be unfinished when it starts; 15: any"
)
_SLOT = Field("slot", 0, 12, 4, "vector slot, below RIGHT_HAND_SIDES", maximum="slot")
_SET = Field("set", 0, 16, 2, "which of the slot's four base exponents belongs to the vector")
_SOURCE = _address("source", 2, "address to read from")
_DESTINATION = _address("destination", 2, "address to write to")
_FIRST_BLOCK = Field("first_block", 6, 0, 16, "first block in the slot", maximum="block", error=ErrorCode.OUT_OF_RANGE)
_SEGMENTS = _count("segments", 5, 12, "segments, 1 to 4095", MAX_SEGMENTS)
_MODIFIER_FIELDS = tuple(
    field
    for i in range(MODIFIERS)
    for field in (
        Field(f"modifier_word_{i}", 15, 9 * i, 4, f"word that modifier {i} changes, 1 to 14; 0: none", maximum=14),
        Field(f"modifier_register_{i}", 15, 9 * i + 4, 5, f"register that modifier {i} adds"),
    )
)


def _register(name: str, word: int, low: int, doc: str) -> Field:
    return Field(name, word, low, 5, doc)


FIELDS: dict[Opcode, tuple[Field, ...]] = {
    Opcode.FENCE: (_OPCODE, _PENDING, *_MODIFIER_FIELDS),
    Opcode.LOAD_VECTOR: (
        _OPCODE,
        _PENDING,
        _SLOT,
        _SET,
        _SOURCE,
        _count("blocks", 5, 32, "blocks of 32 elements, 1 to MAX_BLOCKS", "blocks"),
        _FIRST_BLOCK,
        *_MODIFIER_FIELDS,
    ),
    Opcode.GEMV: (
        _OPCODE,
        _PENDING,
        Field("slots", 0, 12, 5, "vector slots 0 to slots-1 are multiplied, 1 to RIGHT_HAND_SIDES", 1, "slots"),
        Field("set", 0, 17, 2, "which of the slots' four base exponents belongs to the vectors"),
        Field("keep_maxima", 0, 19, 1, "1: the largest results are written, too"),
        Field("format", 0, 24, 8, "number of the format", maximum="format"),
        _place("offset", 1, 0, "first entry in the activation buffer for the results of slot 0"),
        _stride("slot_stride", 1, 16, "entries from the results of one slot to those of the next"),
        _address("source", 2, "address to read from", "beat"),
        Field(
            "stride",
            3,
            0,
            32,
            "0: the stream is contiguous; else distance between groups of rows (format I8 only)",
            multiple="beat",
        ),
        _count("rows", 4, 32, "rows of the matrix, 1 to BUFFER_ENTRIES", "entries"),
        _count("blocks", 5, 32, "blocks in a row, 1 to MAX_BLOCKS", "blocks"),
        Field("first_block", 6, 0, 16, "first block in the slots", maximum="block", error=ErrorCode.OUT_OF_RANGE),
        Field("exponent", 6, 16, 8, "power of two that all results are multiplied with, -128 to 127", signed=True),
        _place("maxima", 7, 0, "entry for the largest result of slot 0"),
        Field("masked", 7, 16, 4, "last results of slot 0 that are masked, below RIGHT_HAND_SIDES", maximum="slot"),
        *_MODIFIER_FIELDS,
    ),
    Opcode.ELEMENTWISE: (
        _OPCODE,
        _PENDING,
        Field(
            "combine",
            0,
            12,
            2,
            "0 SCALE: t = a * p + q; 1 SUM: t = a * p + b * q; 2 PRODUCT: t = a * b; 3 LIMIT: t = the lesser of a * p and q",
        ),
        Field("a_stream", 0, 14, 1, "1: operand a is streamed from memory, not read from the buffer"),
        Field(
            "function",
            0,
            15,
            3,
            "u = function(t): 0 identity, 1 exp, 2 sigmoid, 3 reciprocal, 4 reciprocal_square_root, 5 half",
            maximum=5,
        ),
        Field("multiplier", 0, 18, 2, "v = u * M + N with M: 0 m, 1 the stream, 2 b, 3 a"),
        Field("n_stream", 0, 20, 1, "N: 0 n, 1 the stream"),
        Field(
            "reduce",
            0,
            21,
            3,
            "0 none, 1 sum, 2 sum of squares, 3 maximum, 4 absolute maximum, 5 argmax, 6 argmax and remove",
            maximum=6,
        ),
        Field("reduce_u", 0, 24, 1, "1: reduce u, not v"),
        Field("negate", 0, 25, 1, "1: the reduction's result is negated (not an argmax)"),
        Field("resume", 0, 26, 1, "1: the reduction starts from what is at r"),
        Field("target", 0, 27, 2, "where v goes: 0 nowhere, 1 the buffer, 2 a vector slot", maximum=2),
        Field("next_slot", 0, 29, 1, "slot target: 1: each segment to the next slot; 0: to the next blocks of the same slot"),
        Field("duplicate", 0, 30, 1, "slot target: 1: blocks of 16 elements, written twice, for format I8"),
        Field("join", 0, 31, 1, "slot target: 1: the vector keeps the blocks that it has, and gets these in addition"),
        _place("a", 1, 0, "first entry of operand a"),
        _place("b", 1, 16, "first entry of operand b"),
        _address("source", 2, "address of the streamed operand"),
        _place("d", 3, 0, "first entry of the result"),
        _place("r", 3, 16, "first entry for the results of the reduction", 1),
        _count("count", 4, 32, "elements in a segment, 1 to BUFFER_ENTRIES", "entries"),
        _SEGMENTS,
        Field("slot", 5, 16, 4, "slot target: first slot", maximum="slot"),
        Field("set", 5, 20, 2, "slot target: which of the slot's four base exponents belongs to the vector"),
        _FIRST_BLOCK,
        _stride("a_stride", 7, 0, "entries of a from one segment to the next"),
        _stride("b_stride", 7, 16, "entries of b from one segment to the next"),
        _stride("d_stride", 6, 16, "entries of the result from one segment to the next"),
        Field("p", 8, 0, 32, "float, or entry in the buffer"),
        Field("q", 9, 0, 32, "float, or entry in the buffer"),
        Field("m", 10, 0, 32, "float, or entry in the buffer"),
        Field("n", 11, 0, 32, "float, or entry in the buffer"),
        Field("load", 12, 0, 4, "bit 0, 1, 2, 3: p, q, m, n is an entry in the buffer (lowest 16 bits)"),
        Field("advance", 12, 4, 4, "bit 0, 1, 2, 3: the entry of p, q, m, n is the next one for each segment"),
        Field("index", 13, 0, 32, "added to the index of an argmax"),
        *_MODIFIER_FIELDS,
    ),
    Opcode.STORE: (
        _OPCODE,
        _PENDING,
        _place("a", 1, 0, "first entry in the activation buffer"),
        _DESTINATION,
        _count("count", 4, 32, "entries to write, 1 to BUFFER_ENTRIES", "entries"),
        *_MODIFIER_FIELDS,
    ),
    Opcode.ROTATE: (
        _OPCODE,
        _PENDING,
        _place("a", 1, 0, "first entry of the vectors"),
        _place("d", 1, 16, "first entry of the results; may be `a`"),
        _place("table", 3, 0, "entry of the first cosine; the sines follow after `count` cosines"),
        Field(
            "count",
            4,
            0,
            32,
            "pairs in a vector, a multiple of 4",
            BUFFER_UNIT,
            "entries",
            BUFFER_UNIT,
            ErrorCode.OUT_OF_RANGE,
        ),
        _SEGMENTS,
        _stride("a_stride", 7, 0, "entries from one vector to the next"),
        _stride("d_stride", 7, 16, "entries from one result to the next"),
        *_MODIFIER_FIELDS,
    ),
    Opcode.APPEND: (
        _OPCODE,
        _PENDING,
        Field("cache", 0, 12, 1, "0: keys; 1: values"),
        _place("a", 1, 0, "first entry of the scaled elements, which are rounded to codes"),
        _place("b", 1, 16, "first entry of the scales", 1),
        _address("destination", 2, "address of the first head's keys or values", "beat"),
        _distance("head_stride", 3, "distance from the keys or values of one head to those of the next", "beat"),
        _count("count", 4, 32, f"elements of a head, 1 to {MAX_HEAD}", MAX_HEAD),
        _count("segments", 5, 12, "heads, 1 to 4095", MAX_SEGMENTS),
        Field("token", 6, 0, 32, "row of the cache, from 0 on"),
        _stride("a_stride", 7, 0, "entries from one head to the next"),
        _distance("row_stride", 8, "values: distance between groups of rows", "beat"),
        _address("scales", 9, "values: address of the first head's scales"),
        _distance("scale_stride", 10, "values: distance from the scales of one head to those of the next"),
        *_MODIFIER_FIELDS,
    ),
    Opcode.SET: (
        _OPCODE,
        _register("register", 0, 8, "register to set"),
        Field("mode", 0, 13, 2, "0 plain; 1 minimum: at most `limit`; 2 wrap: 0 from `limit` on", maximum=2),
        _register("x", 0, 16, "register to multiply"),
        _register("y", 0, 24, "register to add"),
        Field("factor", 1, 0, 32, "factor"),
        Field("addend", 2, 0, 32, "addend"),
        Field("shift", 3, 0, 5, "places to shift right"),
        Field("limit", 4, 0, 32, "limit"),
    ),
    Opcode.READ: (
        _OPCODE,
        _PENDING,
        _register("register", 0, 16, "register to set"),
        _place("a", 1, 0, "entry in the activation buffer", 1),
    ),
    Opcode.LOOP: (
        _OPCODE,
        _register("register", 0, 8, "register to count down"),
        Field("target", 1, 0, 16, "index of the command to go on with"),
    ),
}

DOCS: dict[Opcode, str] = {
    Opcode.FENCE: (
        "Ask for nothing more from memory until at most `pending` of the vector unit's commands before it are unfinished, and"
        " every write of the finished ones has been acknowledged by the memory."
    ),
    Opcode.LOAD_VECTOR: (
        "Read a block-floating-point vector of `blocks` blocks at `source` into vector slot `slot`, from `first_block` on."
        " Its base exponent goes to `set`."
    ),
    Opcode.GEMV: (
        "Multiply the matrix whose stream starts at `source` with the vectors in slots 0 to `slots`-1, from `first_block`"
        " on. The result of row `r` and slot `s` goes to entry `offset + s * slot_stride + r` of the activation buffer."
        f" With `keep_maxima` the largest result of slot `s` goes to entry `maxima + {BUFFER_UNIT} * s` behind all of them."
        " The last `masked - s % (masked + 1)` results of slot `s` are minus infinity, whatever the matrix holds: of queries of"
        " consecutive tokens that take turns in the slots, each one sees the keys up to its own token."
    ),
    Opcode.ELEMENTWISE: (
        "For each of `segments` segments and each of `count` elements, compute in float32, rounding every product and every"
        " sum: `t` from operands a and b and the scalars p and q; `u = function(t)`; `v = u * M + N`; send v to the target"
        " and reduce v or u. A factor that is the scalar 1.0 and an addend that is the scalar 0.0 leave what they are"
        " applied to as it is (but flushed). The lesser of two numbers is exact; minus infinity is below all others. Element"
        " `i` of segment `s` of operand a is entry `a + s * a_stride + i`, or element `i` of the stream's part for the"
        " segment; there is one stream of float32, with `ceil(count / 16)` units of 64 bytes for each segment. The result"
        " goes to entry `d + s * d_stride + i`, or is quantised to block floating point for a slot; a last block that is not"
        " full is padded with zeros. The reduction of segment `s` goes to entry `r + s`: a sum in the order of"
        " `spec.floats.total`; for an argmax the largest value to `r + 2 * s` and its position plus `index`, an integer, to"
        " the entry after it; of equal values the first one counts. ARGMAX_REMOVE then replaces it in operand a's buffer"
        " entries by minus infinity. Reductions with `resume` add the sum to what is there, or prefer what is there to an"
        " equal value. Elements are read before any element that is at the same place or behind it is written: d may be a or"
        " b."
    ),
    Opcode.STORE: (
        "Write `count` entries of the activation buffer from `a` on to memory at `destination`; exactly `4 * count` bytes."
    ),
    Opcode.ROTATE: (
        "Rotate pairs by the angles of a table (RoPE). For `i` below `count` and each segment, with `x = a[i]`, `y = a[i +"
        " count]`, `c = table[i]`, `s = table[i + count]`: `d[i] = x * c - y * s`, `d[i + count] = y * c + x * s`, each"
        " product and each sum rounded."
    ),
    Opcode.APPEND: (
        "Round the elements of each head to 8-bit codes and write them to the cache as `spec.kv_cache` lays it out, at row"
        " `token`. Keys: the scales, one for each block of 32 elements (`ceil(count / 32)` for each head), are rounded to"
        " float16 and written beside the codes. Values: the scales, one for each head, go to entry `token` of the head's"
        " array of scales."
    ),
    Opcode.SET: "`register = (x * factor + y + addend) >> shift`, modulo 2**32 before the shift; then the limit is applied.",
    Opcode.READ: (
        "Wait for everything before it on the vector unit, and for the matrix unit as `pending` says; then set `register` to"
        " the bits of an entry."
    ),
    Opcode.LOOP: "Count `register` down by one; unless it is 0 then, go on with command `target` (which must not lie behind).",
}
