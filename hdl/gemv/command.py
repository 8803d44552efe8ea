"""What the engine is told about a matrix before its beats arrive."""

from amaranth.hdl import signed
from amaranth.lib import data

from tailrace.spec.config import Config

#: Bits of a vector's base exponent.
BASE_BITS = 16
#: Bits of a number of rows, which is at most `tailrace.spec.isa.MAX_ROWS`.
ROWS_BITS = 24


def gemv_command_layout(config: Config) -> data.StructLayout:
    """A matrix-vector product.

    ``format`` is a format's number, ``rows`` and ``blocks`` (of 32 elements, in a row) are at least 1, ``slots`` is 1 to
    R, and ``bases`` are the base exponents of the slots' vectors. The engine trusts these ranges.
    """
    return data.StructLayout(
        {
            "format": 8,
            "rows": ROWS_BITS,
            "blocks": 13,
            "slots": 3,
            "bases": data.ArrayLayout(signed(BASE_BITS), config.right_hand_sides),
        }
    )
