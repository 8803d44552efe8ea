"""From the integer sums of a block to its term of the row's exact sum."""

from collections.abc import Sequence

from amaranth.hdl import C, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import EXPONENT_MAX, MANTISSA_BITS

from ..float.float16 import SIGNED_BITS
from ..wide_product import joined, partial_products
from .delay import delayed
from .dot_product import HALF_BITS, HALVES
from .factors import MINIMUM_BITS, factors_layout
from .shifter import SHIFT_MAX, Shifter
from .side_band import SUBSCALE_BITS

#: Bits of the sum of a block's mantissas.
TOTAL_BITS = MANTISSA_BITS + BLOCK.bit_length() - 1
#: Bits of what is multiplied with a minimum: the sum of a block's mantissas, or that of half a block whose codes have 5 bits.
SECOND_BITS = 5 + MANTISSA_BITS + BLOCK.bit_length() - 3
#: Bits of a half sum times its subscale, and of the sum of a block. A code has 6 bits where its subscale has 8; one of a
#: codebook has 8, and a subscale of 6.
PART_BITS = BLOCK_SUM_BITS = 6 + MANTISSA_BITS + 4 + SUBSCALE_BITS
#: Bits of a term.
TERM_BITS = BLOCK_SUM_BITS + SIGNED_BITS + SHIFT_MAX + 1


class Scaler(wiring.Component):
    """Applies a block's scales and minimum to its sums, and shifts to the binary place.

    In the notation of `tailrace.spec.numerics` a term is::

        (sum_0 * subscale_0 + sum_1 * subscale_1 [+ the same of the beat before]) * significand(scale)
                                              << (position(scale) + exponent)
        + total * subminimum * significand(minimum) << (position(minimum) + exponent)

    or 0 for a block that counts as zero. Where the halves of a block have scales of their own, that of the second one and
    ``sum_1`` have the places of the minimum and of ``total``, and ``subscale_1`` is 0.

    Latency: 8 cycles (half sums times subscales in two, block sum, products in two, two of shifts, sum). Throughput: one beat a
    cycle. Stages without work keep their values.

    Attributes
    ----------
    valid : In(1)
        There is a nibble beat.
    sums : In(data.ArrayLayout(signed(HALF_BITS), 2))
        Of its codes times mantissas.
    factors : In(factors_layout)
    lower : In(1)
        The beat before had the upper nibbles of the same block.
    complete : In(1)
        The beat completes its block.
    has_minimum : In(1)
    halves : In(1)
        The minimum is the scale of the second half. Codes have at most 5 bits then.
    total : In(signed(21))
        Sum of the block's mantissas.
    exponent : In(range(32))
        Of the block.
    zero : In(1)
        The block counts as zero.
    term : Out(signed(TERM_BITS))
    term_valid : Out(1)
    """

    #: Cycles from a block's last beat to its term.
    latency = 5 + Shifter.latency + 1

    valid: In(1)
    sums: In(data.ArrayLayout(signed(HALF_BITS), HALVES))
    factors: In(factors_layout)
    lower: In(1)
    complete: In(1)
    has_minimum: In(1)
    halves: In(1)
    total: In(signed(TOTAL_BITS))
    exponent: In(range(EXPONENT_MAX + 1))
    zero: In(1)
    term: Out(signed(TERM_BITS))
    term_valid: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        factors = self.factors

        # Products of a half sum and its subscale.
        parts = [Signal(signed(PART_BITS), name=f"part_{n}", reset_less=True) for n in range(HALVES)]
        with m.If(self.valid):
            split = [
                # Behind the multipliers a zero costs no time: it resets the registers.
                self._registers(m, [Mux(self.zero, 0, part) for part in partial_products(total, subscale)], f"split_{n}")
                for n, (total, subscale) in enumerate(zip(self.sums, factors.subscales, strict=True))
            ]
        with m.If(delayed(m, self.valid, 1, name="split", reset=True)):
            m.d.sync += [part.eq(joined(pair)) for part, pair in zip(parts, split, strict=True)]
        multiplied = delayed(m, self.valid, 2, name="multiplied", reset=True)
        lower = delayed(m, self.lower, 2, name="lower")
        block_sum = Signal(signed(BLOCK_SUM_BITS), reset_less=True)
        with m.If(multiplied):
            m.d.sync += block_sum.eq(parts[0] + parts[1] + Mux(lower, block_sum, 0))

        # Beside the sum. A stage keeps what it has while no block is completed.
        complete = self.valid & self.complete
        split_complete = delayed(m, complete, 1, name="split_complete", reset=True)
        completed = delayed(m, split_complete, 1, name="completed", reset=True)
        summed = delayed(m, completed, 1, name="summed", reset=True)
        beside_layout = data.StructLayout(
            {
                "second": signed(SECOND_BITS),
                "minimum": signed(MINIMUM_BITS),
                "scale": signed(SIGNED_BITS),
                "scale_shift": range(SHIFT_MAX + 1),
                "minimum_shift": range(SHIFT_MAX + 1),
                "has_minimum": 1,
            }
        )
        split_beside = Signal(beside_layout, reset_less=True)
        multiplied_beside = Signal(beside_layout, reset_less=True)
        beside = Signal(beside_layout, reset_less=True)
        with m.If(complete):
            m.d.sync += [
                split_beside.second.eq(Mux(self.halves, self.sums[1], self.total)),
                split_beside.minimum.eq(factors.minimum),
                split_beside.scale.eq(factors.scale),
                split_beside.scale_shift.eq(factors.scale_position + self.exponent),
                split_beside.minimum_shift.eq(factors.minimum_position + self.exponent),
                split_beside.has_minimum.eq(self.has_minimum & ~self.zero),
            ]
        with m.If(split_complete):
            m.d.sync += multiplied_beside.eq(split_beside)
        with m.If(completed):
            m.d.sync += beside.eq(multiplied_beside)

        m.submodules.scale_shifter = scale_shifter = Shifter(BLOCK_SUM_BITS + SIGNED_BITS)
        m.submodules.minimum_shifter = minimum_shifter = Shifter(SECOND_BITS + MINIMUM_BITS)
        for shifter, valid, product, place in (
            (scale_shifter, summed, (block_sum, beside.scale), beside.scale_shift),
            (minimum_shifter, summed & beside.has_minimum, (beside.second, beside.minimum), beside.minimum_shift),
        ):
            scaled = Signal.like(shifter.term, name="scaled", reset_less=True)
            split_shift, shift = (Signal.like(shifter.shift, name=name, reset_less=True) for name in ("split_shift", "shift"))
            with m.If(valid):
                split = self._registers(m, partial_products(*product), "split_term")
                m.d.sync += split_shift.eq(place)
            with m.If(delayed(m, valid, 1, name="split_valid", reset=True)):
                m.d.sync += [scaled.eq(joined(split)), shift.eq(split_shift)]
            m.d.comb += [
                shifter.valid.eq(delayed(m, valid, 2, name="scaled_valid", reset=True)),
                shifter.term.eq(scaled),
                shifter.shift.eq(shift),
            ]

        placed = delayed(m, summed, 2 + Shifter.latency, name="placed", reset=True)
        has_minimum = delayed(m, beside.has_minimum, 2 + Shifter.latency, name="has_minimum")
        term = Signal.like(self.term, reset_less=True)
        with m.If(placed):
            m.d.sync += term.eq(scale_shifter.placed + Mux(has_minimum, minimum_shifter.placed, C(0, signed(1))))
        m.d.comb += [self.term.eq(term), self.term_valid.eq(delayed(m, placed, 1, name="term_valid", reset=True))]
        return m

    @staticmethod
    def _registers(m: Module, values: Sequence[Value], name: str) -> list[Signal]:
        """Registers that take these values, in the conditions of the caller."""
        registers = [Signal.like(value, name=f"{name}_{n}", reset_less=True) for n, value in enumerate(values)]
        m.d.sync += [register.eq(value) for register, value in zip(registers, values, strict=True)]
        return registers
