"""Float32 to float16."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..sticky_shift import shift_sticky

_FRACTION_BITS, _BIASED_BITS = 23, 8
_HALF_FRACTION_BITS = 10
#: Biased exponent of the smallest float32 that is a normal float16.
_NORMAL = 127 - 14
#: Bits of 65504, the largest float16.
_LARGEST = 0x7BFF


class HalfRounding(wiring.Component):
    """`tailrace.spec.floats.half`, as the bits of a float16: ties to even, subnormals included, at most 65504 in magnitude.

    Latency: 2 enabled cycles (shift, rounding). Throughput: one a cycle.

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
    latency = 2

    def elaborate(self, platform: object) -> Module:
        m = Module()
        biased = self.x[_FRACTION_BITS:][:_BIASED_BITS]
        below = Signal(_BIASED_BITS + 1)
        m.d.comb += below.eq(_NORMAL - biased)
        subnormal = ~below[-1] & below.any()

        # Exponent and fraction as one integer: rounding up carries from one into the other.
        sign, large = Signal(reset_less=True), Signal(reset_less=True)
        exponent = Signal(5, reset_less=True)
        fraction = Signal(_FRACTION_BITS + 1, reset_less=True)
        dropped = _FRACTION_BITS - _HALF_FRACTION_BITS
        kept = Cat(fraction[dropped:_FRACTION_BITS], exponent)
        rest, tie = fraction[: dropped - 1].any(), fraction[dropped - 1]
        magnitude = Signal(15)
        rounded = Signal(16)
        m.d.comb += [
            rounded.eq(kept + (tie & (rest | kept[0]))),
            magnitude.eq(Mux(large | (rounded > _LARGEST), _LARGEST, rounded)),
        ]
        with m.If(self.enable):
            significand = Cat(self.x[:_FRACTION_BITS], Const(1, 1))
            m.d.sync += [
                sign.eq(self.x[-1]),
                large.eq(biased > _NORMAL + 29),
                exponent.eq(Mux(subnormal, 0, 1 - below)),
                fraction.eq(self.x[:_FRACTION_BITS]),
                self.half.eq(Cat(magnitude, sign & magnitude.any())),
            ]
            with m.If(subnormal):
                # From 12 places on, less than half of the smallest subnormal is left.
                shifted = shift_sticky(significand, below[:4])
                m.d.sync += fraction.eq(Mux(below[4:].any() | (below[2:4] == 3), 0, shifted))
        return m
