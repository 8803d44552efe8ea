"""How a block of a block-floating-point vector lies in the vector memory and on its read port."""

from amaranth.hdl import signed
from amaranth.lib import data

from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import EXPONENT_MAX, MANTISSA_BITS

#: 32 mantissas, the block's exponent, and the sum of the mantissas, which a format with minima multiplies by the minimum.
vector_block_layout = data.StructLayout(
    {
        "mantissas": data.ArrayLayout(signed(MANTISSA_BITS), BLOCK),
        "exponent": range(EXPONENT_MAX + 1),
        "total": signed(MANTISSA_BITS + BLOCK.bit_length() - 1),
    }
)
