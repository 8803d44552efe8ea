"""The one rounding of a dot product: from the exact sum to a float32."""

from itertools import chain

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.numerics import ACCUMULATOR_BITS, SCALE_EXPONENT

from ..float.float32 import BIAS, FRACTION_BITS, INFINITY, SIGN, SIGNIFICAND_BITS
from ..float.normalise import narrowed
from ..float.pipeline import Pipeline
from ..float.rounding import rounds_up
from .sequencer import EXPONENT_SUM_BITS

#: Bits of the exponent on its way.
_EXPONENT_BITS = EXPONENT_SUM_BITS + 1
#: Places by which the sum is shifted to the left if that many of its top bits are zero, by stage.
NORMALISE = ((64,), (32,), (16, 8), (4, 2, 1))


class RoundToFloat32(wiring.Component):
    """Rounds ``sum * 2**(base - 24)`` to the nearest float32, ties to even.

    Results below the smallest normal float32 become +0, those above the largest become infinite.

    Latency: 7 cycles (magnitude, four of normalisation, rounding, packing). Throughput: one sum a cycle. Stages without a sum
    keep their values.

    Attributes
    ----------
    valid : In(1)
        There is a sum.
    sum : In(signed(120))
    base : In(signed(EXPONENT_SUM_BITS))
    result : Out(32)
        Bits of the float32, so many cycles later.
    """

    #: Cycles from a sum to its result.
    latency = 3 + len(NORMALISE)

    valid: In(1)
    sum: In(signed(ACCUMULATOR_BITS))
    base: In(signed(EXPONENT_SUM_BITS))
    result: Out(32)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipeline = Pipeline(m, C(1), self.valid)

        negative = self.sum[-1]
        stage = pipeline.stage(
            sign=negative,
            # The carry chain is the choice too.
            magnitude=((self.sum ^ negative.replicate(ACCUMULATOR_BITS)) + negative)[:ACCUMULATOR_BITS],
            # Biased exponent of the result, should the top bit of the magnitude be set.
            exponent=(self.base + (SCALE_EXPONENT + BIAS + ACCUMULATOR_BITS - 1))[:_EXPONENT_BITS].as_signed(),
        )
        # A stage needs the bits that get to the significand, or to the one below that, by the shifts that are still to come.
        below: Value = C(0, 1)
        # The shifts' bits make one number, which is subtracted once.
        lowered: Value = C(0, 1)
        for n, places in enumerate(NORMALISE, 1):
            width = SIGNIFICAND_BITS + 1 + sum(chain(*NORMALISE[n:]))
            magnitude, lost, by = narrowed(m, stage.magnitude, below, places, width)
            stage = pipeline.stage(
                sign=stage.sign, magnitude=magnitude, below=lost, exponent=stage.exponent, lowered=lowered | by
            )
            below, lowered = stage.below, stage.lowered

        kept, rest = stage.magnitude[-SIGNIFICAND_BITS:], Cat(below, stage.magnitude[:-SIGNIFICAND_BITS])
        rounded = pipeline.stage(
            sign=stage.sign,
            significand=kept + rounds_up(kept, rest),
            exponent=(stage.exponent - lowered)[:_EXPONENT_BITS].as_signed(),
            # A normalised sum has its top bit set.
            zero=~stage.magnitude[-1],
        )

        # After a carry the lower bits are zero, and so is the fraction wherever it is cut.
        biased = Signal(signed(_EXPONENT_BITS + 1))
        m.d.comb += biased.eq(rounded.exponent + rounded.significand[-1])
        infinite = Cat(C(INFINITY << FRACTION_BITS, SIGN), rounded.sign)
        number = Cat(rounded.significand[:FRACTION_BITS], biased[:8], rounded.sign)
        # After rounding: what rounds up to the smallest normal number is that number.
        result = Mux(rounded.zero | (biased < 1), 0, Mux(biased >= INFINITY, infinite, number))
        m.d.comb += self.result.eq(pipeline.stage(result=result).result)
        assert pipeline.latency == self.latency
        return m
