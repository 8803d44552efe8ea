"""Products of numbers that are wider than a multiplier, in two cycles: registers behind the multipliers, and behind their sum.

A product of two multipliers and an adder in one cycle is the longest path of a design, wherever an FPGA's multipliers lie.
"""

from collections.abc import Sequence

from amaranth.hdl import Value

#: Bits of an unsigned number that a multiplier takes: those of FPGAs have 18, for signed numbers.
MULTIPLIER_BITS = 17


def partial_products(a: Value, b: Value) -> list[Value]:
    """Products of the lower and the upper bits of `a` with `b`, for registers: what `joined` takes in the next cycle.

    Parameters
    ----------
    a : Value
        Signed or not; more than `MULTIPLIER_BITS` bits.
    b : Value
        Signed of at most `MULTIPLIER_BITS` + 1 bits, or unsigned of at most `MULTIPLIER_BITS`.
    """
    upper = a[MULTIPLIER_BITS:]
    return [a[:MULTIPLIER_BITS] * b, (upper.as_signed() if a.shape().signed else upper) * b]


def joined(parts: Sequence[Value]) -> Value:
    """The product whose parts these are."""
    lower, upper = parts
    return lower + (upper << MULTIPLIER_BITS)
