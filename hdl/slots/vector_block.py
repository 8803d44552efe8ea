"""How a block of a block-floating-point vector lies on the read port of the vector memory."""

from amaranth.hdl import signed
from amaranth.lib import data

from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import EXPONENT_MAX, MANTISSA_BITS

#: Bits of a vector's base exponent, as in its header in memory.
BASE_BITS = 16
#: Bits of a block's exponent before the base is taken off.
ABSOLUTE_BITS = 10
#: Base exponents that a slot has.
SETS = 4

#: 32 mantissas, the block's exponent over the base, the sum of the mantissas, which a format with minima multiplies by the
#: minimum, and whether the block counts as zero (all of its terms do then, whatever its mantissas).
vector_block_layout = data.StructLayout(
    {
        "mantissas": data.ArrayLayout(signed(MANTISSA_BITS), BLOCK),
        "exponent": range(EXPONENT_MAX + 1),
        "total": signed(MANTISSA_BITS + BLOCK.bit_length() - 1),
        "zero": 1,
    }
)
