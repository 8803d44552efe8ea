"""Scaled float32 elements to the 8-bit codes of the KV cache."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.kv_cache import CODE_MAX

from ..float.float32 import BIAS, BIASED_BITS, FRACTION_BITS, SIGN, exponent_field
from ..float.rounding import rounds_up
from ..sticky_shift import shift_sticky

#: Biased exponent of the largest elements that are not beyond 127 anyway: those from 64 on.
_HIGHEST = BIAS + 6
#: Places of a code before the point and one behind it; fraction bits below these.
_PLACES = 8
_BELOW = FRACTION_BITS + 1 - _PLACES


class CodeRounding(wiring.Component):
    """`tailrace.spec.kv_cache.codes_of`: the nearest integer, ties to even, limited to +-127.

    Infinities give +-127, subnormals 0.

    Latency: 3 enabled cycles (distance, shift, rounding). Throughput: one word a cycle.

    Parameters
    ----------
    word_elements : int
        Elements in a word.

    Attributes
    ----------
    enable : In(1)
        The pipeline advances.
    elements : In(ArrayLayout(32, word_elements))
    codes : Out(ArrayLayout(signed(8), word_elements))
    """

    #: Enabled cycles from `elements` to `codes`.
    latency = 3

    def __init__(self, word_elements: int) -> None:
        self._word_elements = word_elements
        super().__init__(
            {
                "enable": In(1),
                "elements": In(data.ArrayLayout(32, word_elements)),
                "codes": Out(data.ArrayLayout(signed(8), word_elements)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for n in range(self._word_elements):
            element = self.elements[n]
            biased = exponent_field(element)
            difference = Signal(BIASED_BITS, name=f"difference_{n}")
            # What is beyond 127, or is rounded to 128, has the bits of 127 instead: those are not rounded up.
            large, small = Signal(name=f"large_{n}"), Signal(name=f"small_{n}", reset_less=True)
            m.d.comb += [
                difference.eq(_HIGHEST - biased),
                large.eq(element[_BELOW:SIGN] >= Cat(C(-1, FRACTION_BITS - _BELOW), C(_HIGHEST, BIASED_BITS))),
            ]
            distance = Signal(3, name=f"distance_{n}", reset_less=True)
            upper = Signal(_PLACES, name=f"upper_{n}", reset_less=True)
            below, lost = Signal(name=f"below_{n}", reset_less=True), Signal(name=f"lost_{n}", reset_less=True)
            signs = Signal(2, name=f"signs_{n}", reset_less=True)
            shifted = Signal(_PLACES, name=f"shifted_{n}", reset_less=True)
            code = Signal(signed(8), name=f"code_{n}", reset_less=True)

            gathered = shift_sticky(Cat(below, upper), distance)
            half, whole = shifted[0], shifted[1:]
            sign, round_up = signs[1], rounds_up(whole, Cat(lost, half))
            m.d.comb += self.codes[n].eq(code)
            with m.If(self.enable):
                m.d.sync += [
                    signs.eq(Cat(element[-1], signs)),
                    # From 8 places on, less than a half is left.
                    small.eq(~large & difference[3:].any()),
                    distance.eq(Mux(large, 0, difference)),
                    upper.eq(Mux(large, C(CODE_MAX << 1, _PLACES), Cat(element[_BELOW:FRACTION_BITS], C(1, 1)))),
                    below.eq(element[:_BELOW].any()),
                    Cat(lost, shifted).eq(Mux(small, 0, gathered)),
                    # One carry for both signs: the complement of a number is what is opposite to it, less one.
                    code.eq((Cat(whole, C(0, 1)) ^ sign.replicate(8)) + (round_up ^ sign)),
                ]
        return m
