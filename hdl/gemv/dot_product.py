"""The multipliers of a lane: 32 codes times 32 mantissas, and their sum."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import MANTISSA_BITS

from .delay import delayed
from .traits import CODE_BITS

#: Bits of the sum of 32 products of an unsigned code and a signed mantissa.
DOT_BITS = CODE_BITS + MANTISSA_BITS + BLOCK.bit_length() - 1


class DotProduct(wiring.Component):
    """Sums the products of a block's codes and mantissas.

    Latency: 3 cycles (products, sums of four, sum). Throughput: one block a cycle. A stage keeps its values while it has
    no block, which saves power, and time in simulation.

    Codes are unsigned. What a format subtracts from them is subtracted once, from the sum, times the sum of the
    mantissas that the vector memory holds anyway; so no element needs a decoder.

    Attributes
    ----------
    codes : In(data.ArrayLayout(CODE_BITS, 32))
    mantissas : In(data.ArrayLayout(signed(16), 32))
    valid : In(1)
        There is a block.
    sum : Out(signed(DOT_BITS))
    sum_valid : Out(1)
        `valid`, so many cycles later.
    """

    #: Cycles from codes and mantissas to their sum.
    latency = 3

    codes: In(data.ArrayLayout(CODE_BITS, BLOCK))
    mantissas: In(data.ArrayLayout(signed(MANTISSA_BITS), BLOCK))
    valid: In(1)
    sum: Out(signed(DOT_BITS))
    sum_valid: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product_bits = CODE_BITS + MANTISSA_BITS
        products = [Signal(signed(product_bits), name=f"product_{j}", reset_less=True) for j in range(BLOCK)]
        fours = [Signal(signed(product_bits + 2), name=f"four_{j}", reset_less=True) for j in range(BLOCK // 4)]
        total = Signal(signed(DOT_BITS), reset_less=True)
        products_valid = delayed(m, self.valid, 1, name="products_valid", reset=True)
        fours_valid = delayed(m, products_valid, 1, name="fours_valid", reset=True)
        with m.If(self.valid):
            m.d.sync += [p.eq(self.codes[j] * self.mantissas[j]) for j, p in enumerate(products)]
        with m.If(products_valid):
            m.d.sync += [f.eq(sum(products[4 * j : 4 * j + 4])) for j, f in enumerate(fours)]
        with m.If(fours_valid):
            m.d.sync += total.eq(sum(fours))
        m.d.comb += [self.sum.eq(total), self.sum_valid.eq(delayed(m, fours_valid, 1, name="sum_valid", reset=True))]
        return m
