"""What the control blocks hand to each other."""

from amaranth.lib import data

from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES, FIELDS, Opcode

OPCODE_BITS = 8


def command_layout(opcode: Opcode) -> data.FlexibleLayout:
    """Fields of a command of 64 bytes, at the bit positions that `spec.isa` gives them."""
    fields = {f.name: data.Field(f.width, f.position) for f in FIELDS[opcode]}
    return data.FlexibleLayout(8 * COMMAND_BYTES, fields)


def operation_layout(config: Config) -> data.StructLayout:
    """A command that has been checked and whose reads have been asked for: what the executor works from."""
    return data.StructLayout(
        {
            "opcode": OPCODE_BITS,
            "command": 16,
            "keep": 1,
            "format": 8,
            "slot": 2,
            "slots": 3,
            "stride": 3,
            "offset": 17,
            "rows": 24,
            "blocks": 13,
            "destination": config.address_width,
        }
    )


def error_layout(config: Config) -> data.StructLayout:
    """Why a run stopped."""
    return data.StructLayout({"code": 8, "command": 16, "address": config.address_width})
