"""The order of float32 without NaNs, subnormals and negative zeros."""

from amaranth.hdl import Cat, Mux, Value

SIGN = 31


def order(x: Value) -> Value:
    """A float32 as an unsigned integer of 32 bits that is ordered as the numbers are, and is never 0.

    Not 0, because that would be a NaN with all its bits set: so 0 can stand for no number at all.
    """
    return Mux(x[SIGN], ~x, x ^ 1 << SIGN)[: SIGN + 1]


def from_order(key: Value) -> Value:
    """The float32 whose `order` it is."""
    return Mux(key[SIGN], key ^ 1 << SIGN, ~key)[: SIGN + 1]


def greater(a: Value, b: Value) -> Value:
    """1 if ``a > b``. Combinational; for the results of this package's units, which have one zero and one infinity of each sign."""
    return order(a) > order(b)


def negated(x: Value) -> Value:
    """``-x``; zero stays +0."""
    return Cat(x[:SIGN], ~x[SIGN] & x[:SIGN].any())
