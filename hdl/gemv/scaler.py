"""From the integer sums of a block to its term of the row's exact sum."""

from amaranth.hdl import C, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.formats import BLOCK, FORMATS
from tailrace.spec.numerics import EXPONENT_MAX, MANTISSA_BITS

from .delay import delayed
from .dot_product import DOT_BITS
from .float16 import FLOAT16_BITS, SIGNIFICAND_BITS, position, significand
from .shifter import SHIFT_MAX, Shifter
from .traits import NIBBLE_BITS, OFFSETS

#: Bits of the sum of a block's mantissas.
TOTAL_BITS = MANTISSA_BITS + BLOCK.bit_length() - 1
#: Bits of the sum of codes times mantissas, the nibbles of a code put together.
BLOCK_SUM_BITS = max(DOT_BITS, TOTAL_BITS + NIBBLE_BITS * max(f.nibble_beats for f in FORMATS))
#: Bits of a term.
TERM_BITS = BLOCK_SUM_BITS + SIGNIFICAND_BITS + SHIFT_MAX + 1


class Scaler(wiring.Component):
    """Corrects a block's sum by its codes' offset, applies scale and minimum, and shifts to the binary place.

    In the notation of `tailrace.spec.numerics` a term is::

        (sum - offset * total [+ 16 * the same of the beat before]) * scale + total * minimum

    Latency: 5 cycles (block sum, products, two of shifts, sum). Throughput: one beat a cycle. Stages without work keep
    their values.

    Attributes
    ----------
    valid : In(1)
        There is a nibble beat.
    sum : In(signed(DOT_BITS))
        Of its unsigned codes times mantissas.
    lower : In(1)
        The beat before had the upper nibbles of the same block.
    complete : In(1)
        The beat completes its block.
    offset : In(range(len(OFFSETS)))
        Which of `OFFSETS` to subtract from each code.
    has_minimum : In(1)
    total : In(signed(21))
        Sum of the block's mantissas.
    exponent : In(range(32))
        Of the block.
    scale, minimum : In(16)
        Float16.
    term : Out(signed(TERM_BITS))
    term_valid : Out(1)
    """

    #: Cycles from a block's last beat to its term.
    latency = 2 + Shifter.latency + 1

    valid: In(1)
    sum: In(signed(DOT_BITS))
    lower: In(1)
    complete: In(1)
    offset: In(range(len(OFFSETS)))
    has_minimum: In(1)
    total: In(signed(TOTAL_BITS))
    exponent: In(range(EXPONENT_MAX + 1))
    scale: In(FLOAT16_BITS)
    minimum: In(FLOAT16_BITS)
    term: Out(signed(TERM_BITS))
    term_valid: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()

        correction = Signal(signed(TOTAL_BITS + max(OFFSETS).bit_length()))
        with m.Switch(self.offset):
            for n, offset in enumerate(OFFSETS):
                with m.Case(n):
                    m.d.comb += correction.eq(self.total * offset)
        block_sum = Signal(signed(BLOCK_SUM_BITS), reset_less=True)
        with m.If(self.valid):
            m.d.sync += block_sum.eq(self.sum - correction + Mux(self.lower, block_sum << NIBBLE_BITS, 0))

        # Beside the sum.
        summed = delayed(m, self.valid & self.complete, 1, name="summed", reset=True)
        has_minimum = delayed(m, self.has_minimum, 1, name="has_minimum")
        total = delayed(m, self.total, 1, name="total")
        exponent = delayed(m, self.exponent, 1, name="exponent")
        scale = delayed(m, significand(self.scale), 1, name="scale")
        minimum = delayed(m, significand(self.minimum), 1, name="minimum")
        scale_position = delayed(m, position(self.scale), 1, name="scale_position")
        minimum_position = delayed(m, position(self.minimum), 1, name="minimum_position")

        m.submodules.scale_shifter = scale_shifter = Shifter(BLOCK_SUM_BITS + SIGNIFICAND_BITS)
        m.submodules.minimum_shifter = minimum_shifter = Shifter(TOTAL_BITS + SIGNIFICAND_BITS)
        for shifter, valid, product, place in (
            (scale_shifter, summed, block_sum * scale, scale_position + exponent),
            (minimum_shifter, summed & has_minimum, total * minimum, minimum_position + exponent),
        ):
            scaled = Signal.like(shifter.term, name="scaled", reset_less=True)
            shift = Signal.like(shifter.shift, name="shift", reset_less=True)
            with m.If(valid):
                m.d.sync += [scaled.eq(product), shift.eq(place)]
            m.d.comb += [
                shifter.valid.eq(delayed(m, valid, 1, name="scaled_valid", reset=True)),
                shifter.term.eq(scaled),
                shifter.shift.eq(shift),
            ]

        placed = delayed(m, summed, 1 + Shifter.latency, name="placed", reset=True)
        has_minimum = delayed(m, has_minimum, 1 + Shifter.latency, name="has_minimum")
        term = Signal.like(self.term, reset_less=True)
        with m.If(placed):
            m.d.sync += term.eq(scale_shifter.placed + Mux(has_minimum, minimum_shifter.placed, C(0, signed(1))))
        m.d.comb += [self.term.eq(term), self.term_valid.eq(delayed(m, placed, 1, name="term_valid", reset=True))]
        return m
