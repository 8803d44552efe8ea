"""Float32 to float16."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..float.float16 import FLOAT16_FRACTION_BITS, FLOAT16_MAX, FLOAT16_NORMAL
from ..float.float32 import BIASED_BITS, FRACTION_BITS, exponent_field
from ..float.rounding import rounds_up
from ..sticky_shift import shift_sticky


class HalfRounding(wiring.Component):
    """`tailrace.spec.floats.half`, as the bits of a float16: ties to even, subnormals included, at most 65504 in magnitude.

    Latency: 3 enabled cycles (distance, shift, rounding). Throughput: one a cycle.

    Attributes
    ----------
    enable : In(1)
        The pipeline advances.
    x : In(32)
        Float32 bits.
    half : Out(16)
        Float16 bits. Zero is +0.
    """

    enable: In(1)
    x: In(32)
    half: Out(16)

    #: Enabled cycles from `x` to `half`.
    latency = 3

    def elaborate(self, platform: object) -> Module:
        m = Module()
        biased = exponent_field(self.x)
        below = Signal(BIASED_BITS + 1)
        m.d.comb += below.eq(FLOAT16_NORMAL - biased)

        # How far below the normal numbers it is, if it is.
        subnormal, small = Signal(reset_less=True), Signal(reset_less=True)
        places = Signal(4, reset_less=True)
        first_sign, first_large = Signal(reset_less=True), Signal(reset_less=True)
        first_exponent = Signal(5, reset_less=True)
        first_fraction = Signal(FRACTION_BITS, reset_less=True)
        with m.If(self.enable):
            m.d.sync += [
                subnormal.eq(~below[-1] & below.any()),
                # From 12 places on, less than half of the smallest subnormal is left.
                small.eq(below[4:].any() | (below[2:4] == 3)),
                places.eq(below),
                first_sign.eq(self.x[-1]),
                first_large.eq(biased > FLOAT16_NORMAL + 29),
                first_exponent.eq(1 - below),
                first_fraction.eq(self.x[:FRACTION_BITS]),
            ]

        # Exponent and fraction as one integer: rounding up carries from one into the other.
        sign, large = Signal(reset_less=True), Signal(reset_less=True)
        exponent = Signal(5, reset_less=True)
        fraction = Signal(FRACTION_BITS + 1, reset_less=True)
        dropped = FRACTION_BITS - FLOAT16_FRACTION_BITS
        kept = Cat(fraction[dropped:FRACTION_BITS], exponent)
        magnitude = Signal(15)
        rounded = Signal(16)
        m.d.comb += [
            rounded.eq(kept + rounds_up(kept, fraction[:dropped])),
            magnitude.eq(Mux(large | (rounded > FLOAT16_MAX), FLOAT16_MAX, rounded)),
        ]
        with m.If(self.enable):
            m.d.sync += [
                sign.eq(first_sign),
                large.eq(first_large),
                exponent.eq(Mux(subnormal, 0, first_exponent)),
                fraction.eq(first_fraction),
                self.half.eq(Cat(magnitude, sign & magnitude.any())),
            ]
            with m.If(subnormal):
                shifted = shift_sticky(Cat(first_fraction, Const(1, 1)), places)
                m.d.sync += fraction.eq(Mux(small, 0, shifted))
        return m
