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

#: Halves of a block, which may have scales and minima of their own: elements 0 to 15, and 16 to 31.
HALVES = 2
#: Bits of the sum of half a block's mantissas.
TOTAL_BITS = MANTISSA_BITS + (BLOCK // HALVES).bit_length() - 1
#: The sums of the mantissas of either half.
totals_layout = data.ArrayLayout(signed(TOTAL_BITS), HALVES)

#: 32 mantissas, the block's exponent over the base, the sums of the mantissas, which a format with minima multiplies by the
#: minima, and whether the block counts as zero (all of its terms do then, whatever its mantissas).
vector_block_layout = data.StructLayout(
    {
        "mantissas": data.ArrayLayout(signed(MANTISSA_BITS), BLOCK),
        "exponent": range(EXPONENT_MAX + 1),
        "totals": totals_layout,
        "zero": 1,
    }
)
