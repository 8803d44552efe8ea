"""What the emulator's C++ has of the contract: a header that is written from `tailrace.spec`."""

from collections.abc import Iterator

from tailrace.spec import floats, isa, kv_cache, numerics, registers, vector
from tailrace.spec.commands import limits, reserved_mask
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import BLOCK, CODEBOOKS, FORMATS, I8, LANE_BYTES, Q8_0, SUPERBLOCK, ScaleKind

#: The limits of fields that depend on the build, in the order in which `limit_values` gives them.
LIMITS = tuple(limits(CONFIGS["base"]))
#: What else the machine must know of its build, in the order of `limit_values`, behind the limits.
PARAMETERS = ("lanes", "right_hand_sides", "vector_blocks", "buffer_entries", "address_width", "channels")
_ENUMS = (isa.Opcode, isa.Combine, isa.Multiplier, isa.Reduce, isa.Target, isa.Cache, isa.SetMode, floats.Function, ErrorCode)


def build_values(config: Config) -> list[int]:
    """The numbers of a build, as the header's ``Build`` has them: `LIMITS`, then `PARAMETERS`."""
    bounds = limits(config)
    return [*(bounds[name] for name in LIMITS), *(int(getattr(config, name)) for name in PARAMETERS)]


def header() -> str:
    """The text of ``contract.h``."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "// Written from tailrace.spec by tailrace.sim.emulator.contract."
    yield "#pragma once\n#include <cstdint>\n\nnamespace tailrace::contract {"
    yield from _enums()
    yield from _numbers()
    yield from _build()
    yield from _fields()
    yield from _formats()
    yield from _tables()
    yield "}  // namespace tailrace::contract"


def _enums() -> Iterator[str]:
    for enum in _ENUMS:
        members = ", ".join(f"{member.name} = {member.value}" for member in enum)
        yield f"enum class {enum.__name__} : uint32_t {{ {members} }};"
    counters = ", ".join(name for name, _ in registers.COUNTERS)
    yield f"enum class Counter : uint32_t {{ {counters}, COUNT }};"


def _numbers() -> Iterator[str]:
    numbers = {
        "COMMAND_WORDS": isa.COMMAND_WORDS,
        "ADDRESS_UNIT": isa.ADDRESS_UNIT,
        "BUFFER_UNIT": isa.BUFFER_UNIT,
        "STREAM_UNIT": isa.STREAM_UNIT,
        "PROGRAM_REGISTERS": isa.REGISTERS,
        "FIRST_ARGUMENT": isa.FIRST_ARGUMENT,
        "ARGUMENTS": isa.ARGUMENTS,
        "MODIFIERS": isa.MODIFIERS,
        "MAX_COMMANDS": isa.MAX_COMMANDS,
        "PAGE_BYTES": registers.PAGE_BYTES,
        "BLOCK": BLOCK,
        "LANE_BYTES": LANE_BYTES,
        "SUPERBLOCK": SUPERBLOCK,
        "VECTOR_ALIGNMENT": vector.ALIGNMENT,
        "MANTISSA_MAX": numerics.MANTISSA_MAX,
        "EXPONENT_MAX": numerics.EXPONENT_MAX,
        "SCALE_EXPONENT": numerics.SCALE_EXPONENT,
        "BLOCK_BIAS": numerics.BLOCK_BIAS,
        "BASE_BIAS": numerics.BASE_BIAS,
        "CODE_MAX": kv_cache.CODE_MAX,
        "SEGMENT_BITS": floats.SEGMENT_BITS,
        "VALUE_BITS": floats.VALUE_BITS,
        "LOG2_E": floats.LOG2_E,
        "SIGMOID_LIMIT": floats.SIGMOID_LIMIT,
    }
    for name, value in numbers.items():
        yield f"constexpr int64_t {name} = {value};"


def _build() -> Iterator[str]:
    names = (*(f"limit_{name}" for name in LIMITS), *PARAMETERS)
    yield f"enum class Limit : int {{ {', '.join(LIMITS)}, NONE }};"
    yield "struct Build {"
    yield from (f"    uint64_t {name};" for name in names)
    yield "    uint64_t limit(Limit which) const { return (&limit_" + LIMITS[0] + ")[static_cast<int>(which)]; }"
    yield "};"


def _fields() -> Iterator[str]:
    yield "struct Field { int word, low, width; bool is_signed; };"
    yield (
        "struct Bound { Field field; uint64_t minimum, maximum; Limit limit; uint32_t multiple; Limit multiples;"
        " ErrorCode error; };"
    )
    for opcode in isa.Opcode:
        fields = [f for f in isa.FIELDS[opcode] if f.name != "opcode"]
        yield f"namespace {opcode.name.lower()} {{"
        for f in fields:
            yield f"constexpr Field {f.name}_{{{f.word}, {f.low}, {f.width}, {str(f.signed).lower()}}};"
        yield "constexpr Bound BOUNDS[] = {"
        for f in fields:
            named = f.maximum if isinstance(f.maximum, str) else "NONE"
            maximum = f.maximum if isinstance(f.maximum, int) else (1 << f.width) - 1
            of, multiple = (f.multiple, 1) if isinstance(f.multiple, str) else ("NONE", f.multiple)
            yield (
                f"    {{{f.name}_, {f.minimum}, {maximum}u, Limit::{named}, {multiple}, Limit::{of},"
                f" ErrorCode::{f.error.name}}},"
            )
        yield "};"
        mask = reserved_mask(opcode)
        words = ", ".join(f"{mask >> 32 * word & 0xFFFF_FFFF:#x}u" for word in range(isa.COMMAND_WORDS))
        yield f"constexpr uint32_t RESERVED[] = {{{words}}};"
        yield "}"
    modifiable = " || ".join(f"opcode == {op.value}" for op in isa.MODIFIABLE)
    yield f"constexpr bool is_modifiable(uint32_t opcode) {{ return {modifiable}; }}"


def _formats() -> Iterator[str]:
    yield f"enum class ScaleKind {{ {', '.join(kind.name for kind in ScaleKind)} }};"
    yield (
        "struct Format { uint32_t number; ScaleKind scale_kind; int scale_blocks, subscale_blocks, high_blocks, nibble_beats,"
        " high_bits, code_offset; bool has_minimum; int codebook, planes; };"
    )
    yield "constexpr Format FORMATS[] = {"
    for f in FORMATS:
        yield (
            f"    {{{f.number}, ScaleKind::{f.scale_kind.name}, {f.scale_blocks}, {f.subscale_blocks}, {f.high_blocks},"
            f" {f.nibble_beats}, {f.high_bits}, {f.code_offset}, {str(f.has_minimum).lower()},"
            f" {CODEBOOKS.index(f.codebook)}, {f.planes}}},  // {f.name}"
        )
    yield "};"
    yield f"constexpr int FORMAT_COUNT = {len(FORMATS)};"
    yield f"constexpr uint32_t STRIDED_FORMAT = {I8.number}, KEYS_FORMAT = {Q8_0.number};"
    codebooks = ", ".join(f"{{{', '.join(map(str, codebook))}}}" for codebook in CODEBOOKS)
    yield f"alignas(16) constexpr int8_t CODEBOOKS[][16] = {{{codebooks}}};"


def _tables() -> Iterator[str]:
    yield "struct Segment { int64_t c0, c1, c2; };"
    yield "constexpr Segment TABLE[] = {"
    yield from (f"    {{{', '.join(str(int(c)) for c in row)}}}," for row in floats.TABLE)
    yield "};"
    yield "struct Rows { int first, count; };"
    for function, (first, count) in floats.SEGMENTS.items():
        yield f"constexpr Rows {function.name}_ROWS{{{first}, {count}}};"
