"""Random commands that a build executes, without matrices and vectors to go with them."""

import random

from tailrace.spec.config import Config
from tailrace.spec.formats import BY_NUMBER, FORMATS
from tailrace.spec.isa import MAX_ROWS, MAX_STREAM_BLOCKS, MAX_STRIDE, Opcode, decode, encode
from tailrace.spec.vector import vector_bytes


def valid_fields(opcode: Opcode, config: Config, chance: random.Random) -> dict[str, int]:
    """Fields of a command, drawn from all that `config` executes, with a liking for the largest and the smallest."""
    fields: dict[str, int] = {}
    if opcode in (Opcode.LOAD_VECTOR, Opcode.QUANTISE):
        fields["slot"] = chance.randrange(config.right_hand_sides)
    if opcode in (Opcode.LOAD_VECTOR, Opcode.GEMV):
        fields["source"] = _address(config, chance)
        fields["blocks"] = chance.choice((1, 63, 64, config.vector_blocks, chance.randint(1, config.vector_blocks)))
    if opcode in (Opcode.GEMV, Opcode.STORE):
        fields["destination"] = _address(config, chance)
    if opcode is Opcode.GEMV:
        slots, keep = chance.randint(1, config.right_hand_sides), chance.randrange(2)
        most = min(MAX_ROWS, MAX_STREAM_BLOCKS // fields["blocks"] * config.lanes)
        most = config.result_entries // slots if keep else most
        rows = chance.choice((1, most, chance.randint(1, most), chance.randint(1, min(most, 200))))
        # An offset that is not used may be anything.
        offset = chance.randint(0, config.result_entries - rows * slots) if keep else chance.getrandbits(32)
        fields |= {"format": chance.choice(FORMATS).number, "slots": slots, "keep": keep, "rows": rows, "offset": offset}
    if opcode is Opcode.QUANTISE:
        # The smallest result buffers hold no more than two blocks.
        blocks = chance.randint(1, min(config.vector_blocks, config.result_entries // 32))
        stride = chance.randint(1, min(MAX_STRIDE, config.result_entries // (32 * blocks)))
        offset = chance.randint(0, config.result_entries - 32 * blocks * stride)
        fields |= {"blocks": blocks, "stride": stride, "offset": offset}
    if opcode is Opcode.STORE:
        rows = chance.randint(1, config.result_entries)
        fields |= {"rows": rows, "offset": chance.randint(0, config.result_entries - rows)}
    return fields


def valid_command(opcode: Opcode, config: Config, chance: random.Random) -> bytes:
    """A command that `config` executes."""
    return encode(opcode, **valid_fields(opcode, config, chance))


def expected_beats(command: bytes, config: Config) -> int | None:
    """Bus beats that a valid command reads; None if it reads nothing."""
    opcode, fields = decode(command)
    if opcode is Opcode.LOAD_VECTOR:
        return vector_bytes(fields["blocks"]) // config.bus_bytes
    if opcode is Opcode.GEMV:
        return BY_NUMBER[fields["format"]].matrix_beats(fields["rows"], fields["blocks"], config.lanes)
    return None


def _address(config: Config, chance: random.Random) -> int:
    return 64 * chance.randrange(1 << config.address_width - 6)
