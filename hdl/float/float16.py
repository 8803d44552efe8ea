"""The fields of a float16, and its value as an integer at a binary place."""

from amaranth.hdl import Cat, Mux, Value

from .float32 import BIAS

FLOAT16_BITS = 16
FLOAT16_FRACTION_BITS = 10
#: With the leading one.
FLOAT16_SIGNIFICAND_BITS = FLOAT16_FRACTION_BITS + 1
#: Bits of 65504, the largest one.
FLOAT16_MAX = 0x7BFF
#: Exponent field that the smallest normal one has as a float32.
FLOAT16_NORMAL = BIAS - 14
#: Bits of a significand with leading one and sign.
SIGNED_BITS = FLOAT16_SIGNIFICAND_BITS + 1
#: Largest position of a significand.
POSITION_MAX = 30


def signed_significand(bits: Value) -> Value:
    """Significand with its sign, as `tailrace.spec.numerics` defines it: 12 bits, signed."""
    hidden = bits[FLOAT16_FRACTION_BITS:-1].any()
    magnitude = Cat(bits[:FLOAT16_FRACTION_BITS], hidden)
    return Mux(bits[-1], -magnitude, magnitude)


def position(bits: Value) -> Value:
    """Position of the significand's last bit over that of a subnormal's: 0 to 30, 5 bits."""
    exponent = bits[FLOAT16_FRACTION_BITS:-1]
    return (exponent - exponent.any())[: POSITION_MAX.bit_length()]
