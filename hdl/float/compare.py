"""The order of float32 without NaNs, subnormals and negative zeros."""

from amaranth.hdl import Cat, Mux, Value

from .float32 import FRACTION_BITS, INFINITY, SIGN, exponent_field


def order(x: Value) -> Value:
    """A float32 as an unsigned integer of 32 bits that is ordered as the numbers are, and is never 0.

    Only a NaN with all its bits set would be 0: so 0 can stand for no number at all, which is below every number.
    """
    return Cat(x[:SIGN] ^ x[SIGN].replicate(SIGN), ~x[SIGN])


def from_order(key: Value) -> Value:
    """The float32 whose `order` it is."""
    return Cat(key[:SIGN] ^ (~key[SIGN]).replicate(SIGN), ~key[SIGN])


def exceeds(a: Value, b: Value) -> Value:
    """1 if ``a > b``, of unsigned integers that are equally long.

    The borrow of a difference: that is a carry chain, which synthesis need not make of a comparison.
    """
    assert len(a) == len(b)
    return (b - a)[len(a)]


def negated(x: Value) -> Value:
    """``-x``; zero stays +0."""
    return Cat(x[:SIGN], ~x[SIGN] & x[:SIGN].any())


def flushed(x: Value) -> Value:
    """`tailrace.spec.floats.flush`: no subnormals, no -0, no NaNs."""
    exponent = exponent_field(x)
    fraction = Mux(exponent == INFINITY, 0, x[:FRACTION_BITS])[:FRACTION_BITS]
    return Mux(exponent.any(), Cat(fraction, x[FRACTION_BITS:]), 0)
