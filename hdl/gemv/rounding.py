"""The one rounding of a dot product: from the exact sum to a float32."""

from functools import reduce
from operator import or_

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.numerics import ACCUMULATOR_BITS, SCALE_EXPONENT

from .sequencer import EXPONENT_SUM_BITS

#: Bits of a float32's significand and fraction, and its exponent's bias.
SIGNIFICAND_BITS, FRACTION_BITS, BIAS = 24, 23, 127
INFINITY = 0xFF
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
        valid = Signal(self.latency - 1)
        m.d.sync += valid.eq(Cat(self.valid, valid))

        stage = 0
        sign = Signal(reset_less=True, name="sign_0")
        magnitude = Signal(ACCUMULATOR_BITS, reset_less=True, name="magnitude_0")
        # Biased exponent of the result, should the top bit of the magnitude be set.
        exponent = Signal(signed(EXPONENT_SUM_BITS + 1), reset_less=True, name="exponent_0")
        with m.If(self.valid):
            total = self.sum
            m.d.sync += [
                sign.eq(total < 0),
                magnitude.eq(Mux(total < 0, -total, total)),
                exponent.eq(self.base + (SCALE_EXPONENT + BIAS + ACCUMULATOR_BITS - 1)),
            ]

        for places in NORMALISE:
            shifted, counts = magnitude, []
            for n in places:
                clear = Signal(name=f"clear_{n}")
                left = Signal(ACCUMULATOR_BITS, name=f"left_{n}")
                m.d.comb += [clear.eq(shifted[-n:] == 0), left.eq(Mux(clear, shifted << n, shifted))]
                shifted = left
                counts.append(Mux(clear, n, 0))
            enable = valid[stage]
            stage += 1
            next_sign = Signal(reset_less=True, name=f"sign_{stage}")
            next_magnitude = Signal.like(magnitude, name=f"magnitude_{stage}")
            next_exponent = Signal.like(exponent, name=f"exponent_{stage}")
            with m.If(enable):
                m.d.sync += [next_sign.eq(sign), next_magnitude.eq(shifted), next_exponent.eq(exponent - reduce(or_, counts))]
            sign, magnitude, exponent = next_sign, next_magnitude, next_exponent

        significand = magnitude[-SIGNIFICAND_BITS:]
        rest = magnitude[:-SIGNIFICAND_BITS]
        round_up = rest[-1] & (rest[:-1].any() | significand[0])
        rounded = Signal(SIGNIFICAND_BITS + 1, reset_less=True)
        rounded_sign = Signal(reset_less=True)
        rounded_exponent = Signal.like(exponent)
        zero = Signal(reset_less=True)
        with m.If(valid[stage]):
            m.d.sync += [
                rounded.eq(significand + round_up),
                rounded_sign.eq(sign),
                rounded_exponent.eq(exponent),
                # A normalised sum has its top bit set.
                zero.eq(~magnitude[-1]),
            ]
        stage += 1

        carry = rounded[-1]
        biased = Signal(signed(EXPONENT_SUM_BITS + 2))
        # After a carry the lower bits are zero, and so is the fraction wherever it is cut.
        m.d.comb += biased.eq(rounded_exponent + carry)
        result = Signal(32, reset_less=True)
        with m.If(valid[stage]):
            with m.If(zero | (biased < 1)):
                m.d.sync += result.eq(0)
            with m.Elif(biased >= INFINITY):
                m.d.sync += result.eq(Cat(C(INFINITY << FRACTION_BITS, 31), rounded_sign))
            with m.Else():
                m.d.sync += result.eq(Cat(rounded[:FRACTION_BITS], biased[:8], rounded_sign))
        m.d.comb += self.result.eq(result)
        return m
