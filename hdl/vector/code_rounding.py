"""Scaled float32 elements to the 8-bit codes of the KV cache."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.kv_cache import CODE_MAX

from ..float.float32 import BIAS, BIASED_BITS, FRACTION_BITS, exponent_field
from ..float.rounding import rounds_up
from ..sticky_shift import shift_sticky

#: Biased exponent of the largest elements that are not beyond 127 anyway: those from 64 on.
_HIGHEST = BIAS + 6


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
            m.d.comb += difference.eq(_HIGHEST - biased)
            distance = Signal(3, name=f"distance_{n}", reset_less=True)
            fraction = Signal(FRACTION_BITS, name=f"fraction_{n}", reset_less=True)
            small = Signal(name=f"small_{n}", reset_less=True)

            # Seven places before the point, one behind it, and whether anything is behind that.
            signs = Signal(2, name=f"signs_{n}", reset_less=True)
            larges = Signal(2, name=f"larges_{n}", reset_less=True)
            sign, large = signs[1], larges[1]
            shifted = Signal(FRACTION_BITS + 1, name=f"shifted_{n}", reset_less=True)
            whole, rest = shifted[FRACTION_BITS - 6 :], shifted[: FRACTION_BITS - 6]
            magnitude = Signal(8, name=f"magnitude_{n}")
            limited = Signal(8, name=f"limited_{n}")
            code = Signal(signed(8), name=f"code_{n}", reset_less=True)
            m.d.comb += [
                magnitude.eq(whole + rounds_up(whole, rest)),
                limited.eq(Mux(large | magnitude[-1], CODE_MAX, magnitude)),
                self.codes[n].eq(code),
            ]
            with m.If(self.enable):
                m.d.sync += [
                    signs.eq(Cat(element[-1], signs)),
                    larges.eq(Cat(biased > _HIGHEST, larges)),
                    # From 8 places on, less than a half is left.
                    small.eq(difference[3:].any()),
                    distance.eq(difference),
                    fraction.eq(element[:FRACTION_BITS]),
                    shifted.eq(Mux(small, 0, shift_sticky(Cat(fraction, Const(1, 1)), distance))),
                    code.eq(Mux(sign, -limited, limited)),
                ]
        return m
