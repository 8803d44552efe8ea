"""The one rounding at the end of every unit."""

from amaranth.hdl import C, Cat, Module, Mux, Value

from .float32 import FRACTION_BITS, INFINITY, SIGN, SIGNIFICAND_BITS
from .normalise import normalised
from .pipeline import Pipeline

#: Bits of a biased exponent that may lie on either side of those that a float32 has.
EXPONENT_BITS = 10
#: Places by which a magnitude is shifted to the left if that many of its top bits are zero, in each of two stages.
COARSE, FINE = (16, 8), (4, 2, 1)
#: Bits of a magnitude that this covers.
MAGNITUDE_MAX = 1 + sum(COARSE) + sum(FINE)


def rounds_up(kept: Value, rest: Value) -> Value:
    """Whether what is kept of a number gets one more: to nearest, ties to even. `rest` are the bits below it."""
    return rest[-1] & (rest[:-1].any() | kept[0])


def pack(sign: Value, fraction: Value, round_up: Value, exponent: Value, zero: Value, infinite: Value) -> Value:
    """A float32 out of a rounded significand.

    Parameters
    ----------
    sign, round_up : Value
    fraction : Value
        The significand without its leading one.
    exponent : Value
        Its biased exponent before rounding. Rounding up may carry into it, and so reach infinity.
    zero, infinite : Value
        The result is +0 or infinite whatever the other operands say; infinite comes first.
    """
    magnitude = (Cat(fraction, exponent[:8]) + round_up)[:SIGN]
    infinity = C(INFINITY << FRACTION_BITS, SIGN)
    return Mux(infinite, Cat(infinity, sign), Mux(zero, 0, Cat(magnitude, sign)))


def normalise_and_round(
    m: Module, pipeline: Pipeline, sign: Value, magnitude: Value, exponent: Value, infinite: Value
) -> Value:
    """Three stages: normalise a magnitude of 25 to 32 bits in two, and round it to nearest, ties to even.

    Parameters
    ----------
    m : Module
    pipeline : Pipeline
    sign : Value
    magnitude : Value
    exponent : Value
        Biased exponent of the result, should the top bit of the magnitude be set. Results below 2**-126 become +0.
    infinite : Value
        The result is infinite.
    """
    width = len(magnitude)
    assert SIGNIFICAND_BITS < width <= MAGNITUDE_MAX
    shifted, lowered = normalised(m, magnitude, COARSE)
    coarse = pipeline.stage(sign=sign, magnitude=shifted, exponent=exponent, lowered=lowered, infinite=infinite)
    # Both shifts' bits make one number.
    shifted, lowered = normalised(m, coarse.magnitude, FINE)
    kept, rest = shifted[-SIGNIFICAND_BITS:], shifted[:-SIGNIFICAND_BITS]
    fine = pipeline.stage(
        sign=coarse.sign,
        kept=kept,
        round_up=rounds_up(kept, rest),
        exponent=(coarse.exponent - (coarse.lowered | lowered)).as_signed()[:EXPONENT_BITS].as_signed(),
        infinite=coarse.infinite,
    )
    zero = ~fine.kept[-1] | (fine.exponent < 1)
    infinite = fine.infinite | (~zero & (fine.exponent >= INFINITY))
    result = pack(fine.sign, fine.kept[:-1], fine.round_up, fine.exponent, zero, infinite)
    return pipeline.stage(o=result).o  # type: ignore[no-any-return]
