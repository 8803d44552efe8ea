"""A block's scales as the integers that its sums are multiplied with."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..float.float16 import POSITION_MAX, SIGNED_BITS, position, signed_significand
from ..slots.vector_block import HALVES
from .codes import CodeDecoder
from .delay import delayed
from .dot_product import DotProduct
from .side_band import PACKED_BITS, SUBSCALE_BITS, SideBand, block_scales_layout

#: Bits of a minimum's significand times a subminimum: less than 2**17 in magnitude.
MINIMUM_BITS = SIGNED_BITS + PACKED_BITS

#: What a block's sums are multiplied with: its half sums with ``subscales``, then both with ``scale``, the totals of its
#: mantissas with ``minima``. ``scale_position`` and ``minimum_position`` are the binary places of the products.
factors_layout = data.StructLayout(
    {
        "subscales": data.ArrayLayout(signed(SUBSCALE_BITS), HALVES),
        "scale": signed(SIGNED_BITS),
        "scale_position": range(POSITION_MAX + 1),
        "minima": data.ArrayLayout(signed(MINIMUM_BITS), HALVES),
        "minimum_position": range(POSITION_MAX + 1),
    }
)


class Factors(wiring.Component):
    """Takes a block's float16 scale and minimum apart, once for all vectors.

    Latency: 3 cycles, which with `SideBand` is as long as codes and dot product take: input register, significands, minima.
    Throughput: one block a cycle.

    Attributes
    ----------
    scales : In(block_scales_layout)
    valid : In(1)
        There is a nibble beat. Stages without one keep their values.
    factors : Out(factors_layout)
    """

    #: Cycles from scales to factors.
    latency = CodeDecoder.latency + DotProduct.latency - SideBand.latency

    scales: In(block_scales_layout)
    valid: In(1)
    factors: Out(factors_layout)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid = [self.valid]
        for n in range(self.latency - 1):
            valid.append(delayed(m, valid[-1], 1, name=f"valid_{n}", reset=True))

        raw = Signal(block_scales_layout, reset_less=True)
        with m.If(valid[0]):
            m.d.sync += raw.eq(self.scales)

        apart = Signal(factors_layout, reset_less=True)
        minimum = Signal(signed(SIGNED_BITS), reset_less=True)
        subminima = Signal.like(raw.subminima, reset_less=True)
        with m.If(valid[1]):
            m.d.sync += [
                apart.subscales.eq(raw.subscales),
                apart.scale.eq(Mux(raw.exponent_only, 1, signed_significand(raw.scale))),
                apart.scale_position.eq(Mux(raw.exponent_only, raw.scale, position(raw.scale))),
                apart.minimum_position.eq(position(raw.minimum)),
                minimum.eq(signed_significand(raw.minimum)),
                subminima.eq(raw.subminima),
            ]

        whole = Signal(factors_layout, reset_less=True)
        with m.If(valid[2]):
            m.d.sync += [whole.eq(apart), *(whole.minima[half].eq(minimum * subminima[half]) for half in range(HALVES))]
        m.d.comb += self.factors.eq(whole)
        return m
