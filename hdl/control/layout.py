"""What the control blocks hand to each other."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES, FIELDS, Opcode

OPCODE_BITS = 8


def command_layout(opcode: Opcode) -> data.FlexibleLayout:
    """Fields of a command of 64 bytes, at the bit positions that `spec.isa` gives them."""
    fields = {
        f.name: data.Field(signed(f.width) if f.signed else unsigned(f.width), f.position)
        for f in FIELDS[opcode]
        if not f.name.startswith("modifier_")
    }
    return data.FlexibleLayout(8 * COMMAND_BYTES, fields)


def operation_layout() -> data.StructLayout:
    """A command whose modifiers have been applied, which has been checked, and whose reads have been asked for."""
    return data.StructLayout({"command": 8 * COMMAND_BYTES, "index": 16})


def error_layout(config: Config) -> data.StructLayout:
    """Why a run stopped."""
    return data.StructLayout({"code": 8, "command": 16, "address": config.address_width})
