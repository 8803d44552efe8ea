"""The multipliers of a lane: 32 codes times 32 mantissas, and their two half sums."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import MANTISSA_BITS

from ..slots.vector_block import HALVES
from .delay import delayed
from .traits import CODE_BITS

#: Bits of the sum of 16 products of a code and a mantissa.
HALF_BITS = CODE_BITS + MANTISSA_BITS + (BLOCK // HALVES).bit_length() - 1


class DotProduct(wiring.Component):
    """Sums the products of a block's codes and mantissas, those of each half of the block by themselves.

    Latency: 3 cycles (products, sums of four, sums). Throughput: one block a cycle. A stage keeps its values while it has
    no block, which saves power, and time in simulation.

    Attributes
    ----------
    codes : In(data.ArrayLayout(signed(CODE_BITS), 32))
    mantissas : In(data.ArrayLayout(signed(16), 32))
    valid : In(1)
        There is a block.
    sums : Out(data.ArrayLayout(signed(HALF_BITS), 2))
        Of elements 0 to 15, and of elements 16 to 31.
    sums_valid : Out(1)
        `valid`, so many cycles later.
    """

    #: Cycles from codes and mantissas to their sums.
    latency = 3

    codes: In(data.ArrayLayout(signed(CODE_BITS), BLOCK))
    mantissas: In(data.ArrayLayout(signed(MANTISSA_BITS), BLOCK))
    valid: In(1)
    sums: Out(data.ArrayLayout(signed(HALF_BITS), HALVES))
    sums_valid: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product_bits = CODE_BITS + MANTISSA_BITS
        products = [Signal(signed(product_bits), name=f"product_{j}", reset_less=True) for j in range(BLOCK)]
        fours = [Signal(signed(product_bits + 2), name=f"four_{j}", reset_less=True) for j in range(BLOCK // 4)]
        halves = [Signal(signed(HALF_BITS), name=f"half_{n}", reset_less=True) for n in range(HALVES)]
        products_valid = delayed(m, self.valid, 1, name="products_valid", reset=True)
        fours_valid = delayed(m, products_valid, 1, name="fours_valid", reset=True)
        with m.If(self.valid):
            m.d.sync += [p.eq(self.codes[j] * self.mantissas[j]) for j, p in enumerate(products)]
        with m.If(products_valid):
            m.d.sync += [f.eq(sum(products[4 * j : 4 * j + 4])) for j, f in enumerate(fours)]
        with m.If(fours_valid):
            share = len(fours) // HALVES
            m.d.sync += [half.eq(sum(fours[n * share : (n + 1) * share])) for n, half in enumerate(halves)]
        m.d.comb += [
            *(self.sums[n].eq(half) for n, half in enumerate(halves)),
            self.sums_valid.eq(delayed(m, fours_valid, 1, name="sums_valid", reset=True)),
        ]
        return m
