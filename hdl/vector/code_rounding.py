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

    Latency: 2 enabled cycles (shift, rounding). Throughput: one word a cycle.

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
    latency = 2

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
            distance = Signal(_BIASED_BITS, name=f"distance_{lane}")
            m.d.comb += distance.eq(_HIGHEST - biased)

            # Seven places before the point, one behind it, and whether anything is behind that.
            sign, large = Signal(name=f"sign_{lane}", reset_less=True), Signal(name=f"large_{lane}", reset_less=True)
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
                significand = Cat(element[:_FRACTION_BITS], Const(1, 1))
                m.d.sync += [
                    sign.eq(element[-1]),
                    large.eq(biased > _HIGHEST),
                    # From 8 places on, less than a half is left.
                    shifted.eq(Mux(distance[3:].any(), 0, shift_sticky(significand, distance[:3]))),
                    code.eq(Mux(sign, -limited, limited)),
                ]
        return m
