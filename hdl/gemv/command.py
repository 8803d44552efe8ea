"""What the engine is told about a matrix before its beats arrive."""

from amaranth.hdl import signed
from amaranth.lib import data

from tailrace.spec.config import Config
from tailrace.spec.isa import FIELDS, Opcode

from ..slots.vector_block import BASE_BITS

_WIDTHS = {field.name: field.width for field in FIELDS[Opcode.GEMV]}
#: Bits of what a command adds to the base exponents.
EXPONENT_BITS = _WIDTHS["exponent"]
#: Bits of a number of slots.
SLOTS_BITS = _WIDTHS["slots"]
#: Bits of a number of rows, which is at most the largest `Config.buffer_entries`.
ROWS_BITS = 17
#: Bits of a place in the activation buffer, and of a distance there, in entries.
PLACE_BITS = _WIDTHS["offset"]


def maxima_gap(config: Config) -> int:
    """Cycles between a command's last results and its maxima: one for each comparison within a word (`Maxima`)."""
    return config.lanes.bit_length() - 1


def gemv_command_layout(config: Config) -> data.StructLayout:
    """A matrix-vector product.

    ``format`` is a format's number, ``rows`` and ``blocks`` (in a row) are at least 1, ``slots`` is 1 to R. The vectors start
    at block ``first_block`` of their slots; ``set`` says which of a slot's base exponents they have, and ``bases`` are those,
    one for each slot. ``exponent`` is added to all of them. The result of row ``r`` and slot ``s`` goes to entry ``offset + s *
    slot_stride + r`` of the activation buffer; with ``keep_maxima`` the largest one of slot ``s`` goes to entry ``maxima +
    BUFFER_UNIT * s``. The last ``masked - s % (masked + 1)`` results of slot ``s`` are minus infinity. ``offset``,
    ``slot_stride`` and ``maxima`` are multiples of `tailrace.spec.isa.BUFFER_UNIT`. The engine trusts these ranges.
    """
    return data.StructLayout(
        {
            "format": 8,
            "rows": ROWS_BITS,
            "blocks": 13,
            "slots": SLOTS_BITS,
            "first_block": range(config.vector_blocks),
            "set": 2,
            "exponent": signed(EXPONENT_BITS),
            "offset": PLACE_BITS,
            "slot_stride": PLACE_BITS,
            "keep_maxima": 1,
            "maxima": PLACE_BITS,
            "masked": range(config.right_hand_sides),
            "bases": data.ArrayLayout(signed(BASE_BITS), config.right_hand_sides),
        }
    )
