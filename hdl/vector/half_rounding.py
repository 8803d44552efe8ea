"""Float32 to float16."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..float.float16 import FLOAT16_BITS, FLOAT16_FRACTION_BITS, FLOAT16_NORMAL
from ..float.float32 import BIASED_BITS, FRACTION_BITS, SIGN, exponent_field
from ..float.rounding import rounds_up
from ..sticky_shift import shift_sticky

#: Bits of a float16's fraction and the one below them; fraction bits of a float32 below these.
_PLACES = FLOAT16_FRACTION_BITS + 1
_BELOW = FRACTION_BITS - _PLACES


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
        # What is beyond 65504, or is rounded to more, has the bits of 65504 instead: those are not rounded up.
        large = Signal()
        m.d.comb += [
            below.eq(FLOAT16_NORMAL - biased),
            large.eq(self.x[_BELOW:SIGN] >= Cat(C(-1, _PLACES), C(FLOAT16_NORMAL + 29, BIASED_BITS))),
        ]

        # How far below the normal numbers it is, if it is.
        subnormal, small = Signal(reset_less=True), Signal(reset_less=True)
        places = Signal(4, reset_less=True)
        signs = Signal(2, reset_less=True)
        first_exponent = Signal(5, reset_less=True)
        upper, dropped = Signal(_PLACES, reset_less=True), Signal(reset_less=True)
        with m.If(self.enable):
            m.d.sync += [
                subnormal.eq(~below[-1] & below.any()),
                # From 16 places on, nothing of the smallest subnormal is left.
                small.eq(~below[-1] & below[4:-1].any()),
                places.eq(Mux(below[-1], 0, below)),
                signs.eq(Cat(self.x[-1], signs)),
                first_exponent.eq(Mux(large, 30, biased - (FLOAT16_NORMAL - 1))),
                upper.eq(Mux(large, C(-2, _PLACES), self.x[_BELOW:FRACTION_BITS])),
                dropped.eq(self.x[:_BELOW].any()),
            ]

        # The fraction and a bit that decides the rounding. A one that is left above them is that of a normal number.
        shifted, lost = Signal(_PLACES, reset_less=True), Signal(reset_less=True)
        exponent = Signal(5, reset_less=True)
        gathered = shift_sticky(Cat(dropped, upper, C(1, 1)), places)
        with m.If(self.enable):
            m.d.sync += [
                exponent.eq(Mux(subnormal, 0, first_exponent)),
                Cat(lost, shifted).eq(Mux(small, 0, gathered)),
            ]

        # Exponent and fraction as one integer: rounding up carries from one into the other.
        kept, rest = Cat(shifted[1:], exponent), Cat(lost, shifted[0])
        magnitude = Signal(FLOAT16_BITS - 1)
        m.d.comb += magnitude.eq(kept + rounds_up(kept, rest))
        with m.If(self.enable):
            # Of nothing but a half, nothing is left.
            m.d.sync += self.half.eq(Cat(magnitude, signs[1] & (kept.any() | rest.all())))
        return m
