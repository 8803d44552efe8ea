"""The fields of a float32."""

from amaranth.hdl import C, Cat, Mux, Value

FRACTION_BITS = 23
#: With the leading one.
SIGNIFICAND_BITS = FRACTION_BITS + 1
#: Bits of the exponent field, which holds the exponent plus `BIAS`.
BIASED_BITS, BIAS = 8, 127
#: Exponent field of infinity.
INFINITY = 0xFF
#: Bits of the number below all others.
MINUS_INFINITY = 0x1FF << FRACTION_BITS
#: The sign bit.
SIGN = 31


def exponent_field(x: Value) -> Value:
    """Biased exponent of a float32."""
    return x[FRACTION_BITS:SIGN]


def significand(x: Value) -> Value:
    """Significand with the leading one, 24 bits; 0 for zero and subnormals."""
    normal = exponent_field(x).any()
    return Mux(normal, Cat(x[:FRACTION_BITS], C(1, 1)), 0)
