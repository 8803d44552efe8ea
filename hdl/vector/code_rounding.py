"""Scaled float32 elements to the 8-bit codes of the KV cache."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.kv_cache import CODE_MAX

from ..sticky_shift import shift_sticky

_FRACTION_BITS, _BIASED_BITS = 23, 8
#: Biased exponent of the largest elements that are not beyond 127 anyway: those from 64 on.
_HIGHEST = 127 + 6


class CodeRounding(wiring.Component):
    """`tailrace.spec.kv_cache.codes_of`: the nearest integer, ties to even, limited to +-127.

    Infinities give +-127, subnormals 0.

    Latency: 3 enabled cycles (distance, shift, rounding). Throughput: one word a cycle.

    Parameters
    ----------
    lanes : int
        Elements in a word.

    Attributes
    ----------
    enable : In(1)
        The pipeline advances.
    elements : In(ArrayLayout(32, lanes))
    codes : Out(ArrayLayout(signed(8), lanes))
    """

    #: Enabled cycles from `elements` to `codes`.
    latency = 3

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__(
            {
                "enable": In(1),
                "elements": In(data.ArrayLayout(32, lanes)),
                "codes": Out(data.ArrayLayout(signed(8), lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for lane in range(self._lanes):
            element = self.elements[lane]
            biased = element[_FRACTION_BITS:][:_BIASED_BITS]
            difference = Signal(_BIASED_BITS, name=f"difference_{lane}")
            m.d.comb += difference.eq(_HIGHEST - biased)
            distance = Signal(3, name=f"distance_{lane}", reset_less=True)
            fraction = Signal(_FRACTION_BITS, name=f"fraction_{lane}", reset_less=True)
            small = Signal(name=f"small_{lane}", reset_less=True)

            # Seven places before the point, one behind it, and whether anything is behind that.
            signs = Signal(2, name=f"signs_{lane}", reset_less=True)
            larges = Signal(2, name=f"larges_{lane}", reset_less=True)
            sign, large = signs[1], larges[1]
            shifted = Signal(_FRACTION_BITS + 1, name=f"shifted_{lane}", reset_less=True)
            whole, rest = shifted[_FRACTION_BITS - 6 :], shifted[: _FRACTION_BITS - 7].any()
            half = shifted[_FRACTION_BITS - 7]
            magnitude = Signal(8, name=f"magnitude_{lane}")
            limited = Signal(8, name=f"limited_{lane}")
            code = Signal(signed(8), name=f"code_{lane}", reset_less=True)
            m.d.comb += [
                magnitude.eq(whole + (half & (rest | whole[0]))),
                limited.eq(Mux(large | magnitude[-1], CODE_MAX, magnitude)),
                self.codes[lane].eq(code),
            ]
            with m.If(self.enable):
                m.d.sync += [
                    signs.eq(Cat(element[-1], signs)),
                    larges.eq(Cat(biased > _HIGHEST, larges)),
                    # From 8 places on, less than a half is left.
                    small.eq(difference[3:].any()),
                    distance.eq(difference),
                    fraction.eq(element[:_FRACTION_BITS]),
                    shifted.eq(Mux(small, 0, shift_sticky(Cat(fraction, Const(1, 1)), distance))),
                    code.eq(Mux(sign, -limited, limited)),
                ]
        return m
