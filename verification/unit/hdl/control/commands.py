"""Random commands that a build executes, without matrices and vectors to go with them."""

import random

from tailrace.spec.commands import decode, encode, limits
from tailrace.spec.config import Config
from tailrace.spec.formats import BY_NUMBER, FORMATS, I8
from tailrace.spec.isa import FIELDS, Field, Opcode
from tailrace.spec.vector import vector_bytes


def bounds(field: Field, config: Config) -> tuple[int, int]:
    """The smallest and the largest value of a field; of one without bounds, those that fit."""
    maximum = limits(config)[field.maximum] if isinstance(field.maximum, str) else field.maximum
    if field.signed:
        return -(1 << field.width - 1), (1 << field.width - 1) - 1
    largest = (1 << field.width) - 1 if maximum is None else maximum
    return field.minimum, largest - largest % multiple_of(field, config)


def multiple_of(field: Field, config: Config) -> int:
    """What a field is a multiple of."""
    return limits(config)[field.multiple] if isinstance(field.multiple, str) else field.multiple


def valid_fields(opcode: Opcode, config: Config, chance: random.Random) -> dict[str, int]:
    """Fields of a command, drawn from all that `config` executes, with a liking for the largest and the smallest."""
    fields = {}
    for field in FIELDS[opcode]:
        if field.name == "opcode" or field.name.startswith("modifier_"):
            continue
        low, high = bounds(field, config)
        value = chance.choice((low, high, chance.randint(low, high), chance.randint(low, min(high, low + 200))))
        fields[field.name] = value - value % multiple_of(field, config)
    if opcode is Opcode.GEMV:
        fields["format"] = chance.choice(FORMATS).number
        if fields["format"] != I8.number:
            fields["stride"] = 0
    return fields


def valid_command(opcode: Opcode, config: Config, chance: random.Random) -> bytes:
    """A command that `config` executes."""
    return encode(opcode, **valid_fields(opcode, config, chance))


def expected_reads(command: bytes, config: Config) -> list[tuple[int, int]]:
    """Address and beats of each read of a valid command, of vectors those of 64 bytes at most."""
    opcode, fields = decode(command)
    source = 64 * fields.get("source", 0)
    if opcode is Opcode.LOAD_VECTOR:
        return [(source, vector_bytes(fields["blocks"]) // config.unit_bytes)]
    if opcode is Opcode.ELEMENTWISE and (fields["a_stream"] or fields["n_stream"] or fields["multiplier"] == 1):
        return [(source, fields["segments"] * -(-fields["count"] // 16) * 64 // config.unit_bytes)]
    if opcode is not Opcode.GEMV:
        return []
    fmt = BY_NUMBER[fields["format"]]
    if not fields["stride"]:
        return [(source, fmt.matrix_beats(fields["rows"], fields["blocks"], config.lanes))]
    groups = -(-fields["rows"] // config.lanes)
    wrap = 1 << config.address_width
    return [((source + 64 * fields["stride"] * n) % wrap, fmt.stream_beats(fields["blocks"])) for n in range(groups)]
