"""Float16 scales and minima as integers at a binary place."""

from amaranth.hdl import Cat, Mux, Value

#: Bits of a float16, of its fraction, and of its significand with hidden bit and sign.
FLOAT16_BITS = 16
FRACTION_BITS = 10
SIGNIFICAND_BITS = FRACTION_BITS + 2
#: Largest position of a significand.
POSITION_MAX = 30


def significand(bits: Value) -> Value:
    """Significand with its sign, as `tailrace.spec.numerics` defines it: 12 bits, signed."""
    hidden = bits[FRACTION_BITS:-1].any()
    magnitude = Cat(bits[:FRACTION_BITS], hidden)
    return Mux(bits[-1], -magnitude, magnitude)


def position(bits: Value) -> Value:
    """Position of the significand's last bit over that of a subnormal's: 0 to 30, 5 bits."""
    exponent = bits[FRACTION_BITS:-1]
    return (exponent - exponent.any())[: POSITION_MAX.bit_length()]
