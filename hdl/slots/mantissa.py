"""Float32 elements to the mantissas of a block."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.numerics import MANTISSA_BITS, MANTISSA_MAX

from ..float.float32 import BIASED_BITS, FRACTION_BITS, SIGNIFICAND_BITS, exponent_field
from ..float.rounding import rounds_up
from ..sticky_shift import shift_sticky

#: Places between the significand and the mantissa of an element that has its block's largest exponent.
_DROPPED_BITS = SIGNIFICAND_BITS - (MANTISSA_BITS - 1)
#: Bits of the distance to the block's exponent up to which a mantissa is not zero.
_DISTANCE_BITS = 4


class MantissaRounding(wiring.Component):
    """Shift each element to its block's exponent, and round to nearest, ties to even, limited to +-32767.

    Subnormals count as zero. An exponent field of 255 is read as any other.

    Only one bit is kept of what is shifted out, whether any of it was 1: rounding need not know more. At a distance of 16 or
    more, less than half a unit is left.

    Latency: 5 cycles (distance, shift by less than 4, shift by a multiple of 4, rounding, limit). Throughput: one word a cycle.

    Parameters
    ----------
    word_elements : int
        Elements in a word.

    Attributes
    ----------
    valid : In(1)
        There is a word. Stages without one keep their values.
    elements : In(ArrayLayout(32, word_elements))
        Float32 bits.
    largest : In(8)
        Largest biased exponent in the block of the elements.
    mantissas : Out(ArrayLayout(signed(16), word_elements))
    o_valid : Out(1)
        `valid`, 5 cycles ago.
    busy : Out(1)
        A word is under way, or at `mantissas`.
    """

    #: Cycles from `elements` to `mantissas`.
    latency = 5

    def __init__(self, word_elements: int) -> None:
        self._word_elements = word_elements
        super().__init__(
            {
                "valid": In(1),
                "elements": In(data.ArrayLayout(32, word_elements)),
                "largest": In(BIASED_BITS),
                "mantissas": Out(data.ArrayLayout(signed(MANTISSA_BITS), word_elements)),
                "o_valid": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid = Signal(self.latency)
        m.d.sync += valid.eq(Cat(self.valid, valid[:-1]))
        m.d.comb += [self.o_valid.eq(valid[-1]), self.busy.eq(valid.any())]
        enables = Cat(self.valid, valid[:-1])
        for n in range(self._word_elements):
            self._round(m, n, enables)
        return m

    def _round(self, m: Module, n: int, enables: Value) -> None:
        element = self.elements[n]
        sign = Signal(self.latency - 1, name=f"sign_{n}", reset_less=True)

        biased = exponent_field(element)
        difference = Signal(BIASED_BITS, name=f"difference_{n}")
        zero = Signal(name=f"zero_{n}", reset_less=True)
        distance = Signal(_DISTANCE_BITS, name=f"distance_{n}", reset_less=True)
        fraction = Signal(FRACTION_BITS, name=f"fraction_{n}", reset_less=True)
        m.d.comb += difference.eq(self.largest - biased)
        with m.If(enables[0]):
            m.d.sync += [
                zero.eq((biased == 0) | difference[_DISTANCE_BITS:].any()),
                distance.eq(difference),
                fraction.eq(element),
                sign[0].eq(element[-1]),
            ]

        fine = Signal(SIGNIFICAND_BITS + 1, name=f"fine_{n}", reset_less=True)
        coarse_distance = Signal(_DISTANCE_BITS - 2, name=f"coarse_distance_{n}", reset_less=True)
        coarse = Signal(SIGNIFICAND_BITS + 1, name=f"coarse_{n}", reset_less=True)
        significand = Mux(zero, 0, Cat(Const(0, 1), fraction, Const(1, 1)))
        with m.If(enables[1]):
            m.d.sync += [
                fine.eq(shift_sticky(significand, distance[:2])),
                coarse_distance.eq(distance[2:]),
                sign[1].eq(sign[0]),
            ]
        with m.If(enables[2]):
            m.d.sync += [coarse.eq(shift_sticky(fine, coarse_distance, 4)), sign[2].eq(sign[1])]

        kept = coarse[1 + _DROPPED_BITS :]
        magnitude = Signal(MANTISSA_BITS, name=f"magnitude_{n}", reset_less=True)
        with m.If(enables[3]):
            m.d.sync += [magnitude.eq(kept + rounds_up(kept, coarse[: 1 + _DROPPED_BITS])), sign[3].eq(sign[2])]

        limited = Signal(MANTISSA_BITS, name=f"limited_{n}")
        mantissa = Signal(signed(MANTISSA_BITS), name=f"mantissa_{n}", reset_less=True)
        # Rounding up can exceed the largest mantissa by one.
        m.d.comb += [limited.eq(Mux(magnitude[-1], MANTISSA_MAX, magnitude)), self.mantissas[n].eq(mantissa)]
        with m.If(enables[4]):
            m.d.sync += mantissa.eq(Mux(sign[3], -limited, limited))
