"""From the integer sums of a block to its term of the row's exact sum."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.numerics import EXPONENT_MAX, MANTISSA_BITS

from ..float.float16 import SIGNED_BITS
from ..slots.vector_block import HALVES, TOTAL_BITS, totals_layout
from ..wide_product import MULTIPLIER_BITS, joined, partial_products
from .delay import delayed
from .dot_product import HALF_BITS
from .factors import MINIMUM_BITS, factors_layout
from .shifter import SHIFT_MAX, Shifter
from .side_band import SUBSCALE_BITS

#: Bits of what is multiplied with the first minimum: the sum of half a block's mantissas, or of those times codes of 5 bits.
SECOND_BITS = 4 + TOTAL_BITS
#: Bits of the sum of both halves, with their minima. Where codes are in it the minimum is no more than a significand.
MINIMUM_SUM_BITS = TOTAL_BITS + MINIMUM_BITS
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
        + (total_0 * subminimum_0 + total_1 * subminimum_1) * significand(minimum)
                                              << (position(minimum) + exponent)

    or 0 for a block that counts as zero. Where the halves of a block have scales of their own, that of the second one and
    ``sum_1`` have the places of the minimum and of ``total_0``, and ``subscale_1`` and ``subminimum_1`` are 0.

    Latency: 8 cycles (half sums times subscales in two, block sum, products in two, two of shifts, sum). Beside the first
    three, totals are multiplied with minima and added up. Throughput: one beat a cycle. Stages without work keep their values.

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
    totals : In(totals_layout)
        Sums of the mantissas of the block's halves.
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
    totals: In(totals_layout)
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
                self._registers(m, [Mux(self.zero, 0, part) for part in partial_products(half, subscale)], f"split_{n}")
                for n, (half, subscale) in enumerate(zip(self.sums, factors.subscales, strict=True))
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
                split_beside.scale.eq(factors.scale),
                split_beside.scale_shift.eq(factors.scale_position + self.exponent),
                split_beside.minimum_shift.eq(factors.minimum_position + self.exponent),
                split_beside.has_minimum.eq(self.has_minimum & ~self.zero),
            ]
        with m.If(split_complete):
            m.d.sync += multiplied_beside.eq(split_beside)
        with m.If(completed):
            m.d.sync += beside.eq(multiplied_beside)

        scaled = Signal(signed(BLOCK_SUM_BITS + SIGNED_BITS), reset_less=True)
        with m.If(summed):
            split = self._registers(m, partial_products(block_sum, beside.scale), "split_term")
        with m.If(delayed(m, summed, 1, name="split_summed", reset=True)):
            m.d.sync += scaled.eq(joined(split))
        minimum_sum = self._minimum_sum(m, complete & self.has_minimum, delayed(m, beside.has_minimum, 1, name="has_minimum"))

        m.submodules.scale_shifter = scale_shifter = Shifter(BLOCK_SUM_BITS + SIGNED_BITS)
        m.submodules.minimum_shifter = minimum_shifter = Shifter(MINIMUM_SUM_BITS)
        scaled_valid = delayed(m, summed, 2, name="scaled_valid", reset=True)
        for shifter, product, place in (
            (scale_shifter, scaled, beside.scale_shift),
            (minimum_shifter, minimum_sum, beside.minimum_shift),
        ):
            m.d.comb += [
                shifter.valid.eq(scaled_valid),
                shifter.term.eq(product),
                shifter.shift.eq(delayed(m, place, 2, name="shift")),
            ]

        placed = delayed(m, summed, 2 + Shifter.latency, name="placed", reset=True)
        term = Signal.like(self.term, reset_less=True)
        with m.If(placed):
            m.d.sync += term.eq(scale_shifter.placed + minimum_shifter.placed)
        m.d.comb += [self.term.eq(term), self.term_valid.eq(delayed(m, placed, 1, name="term_valid", reset=True))]
        return m

    def _minimum_sum(self, m: Module, valid: Value, there: Value) -> Value:
        """The totals times minima, five cycles after `valid`; 0 if it was not `there` in the cycle before."""
        minima, totals = self.factors.minima, self.totals
        first = Signal(signed(SECOND_BITS))
        m.d.comb += first.eq(Mux(self.halves, self.sums[1], totals[0]))
        with m.If(valid):
            lower_0, upper_0 = self._registers(m, partial_products(first, minima[0]), "split_minimum_0")
            lower_1, upper_1 = self._registers(m, partial_products(totals[1], minima[1]), "split_minimum_1")
        lower = Signal(signed(MULTIPLIER_BITS + MINIMUM_BITS + 1), name="lower_minimum", reset_less=True)
        upper = Signal(signed(MINIMUM_SUM_BITS - MULTIPLIER_BITS), name="upper_minimum", reset_less=True)
        with m.If(delayed(m, valid, 1, name="split_minimum_valid", reset=True)):
            m.d.sync += [lower.eq(lower_0 + lower_1), upper.eq(upper_0 + upper_1)]
        found = Signal(signed(MINIMUM_SUM_BITS), name="minimum_sum", reset_less=True)
        with m.If(delayed(m, valid, 2, name="minimum_valid", reset=True)):
            m.d.sync += found.eq(joined([lower, upper]))
        held = Signal.like(found, name="minimum_sum_held", reset_less=True)
        # A zero here, where it resets the register, costs less than in front of the last sum.
        m.d.sync += held.eq(Mux(there, delayed(m, found, 1, name="minimum_sum_before"), 0))
        return held

    @staticmethod
    def _registers(m: Module, values: Sequence[Value], name: str) -> list[Signal]:
        """Registers that take these values, in the conditions of the caller."""
        registers = [Signal.like(value, name=f"{name}_{n}", reset_less=True) for n, value in enumerate(values)]
        m.d.sync += [register.eq(value) for register, value in zip(registers, values, strict=True)]
        return registers
