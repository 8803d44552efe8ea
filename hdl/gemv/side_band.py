"""The side band of a lane: scales, minima and upper bits of codes that travel ahead of the nibbles they belong to."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.formats import BLOCK, LANE_BYTES

from .float16 import FLOAT16_BITS


class SideBand(wiring.Component):
    """Holds the last scale beat and the last high beat of a lane and moves on by one block at a time.

    Shift registers, not multiplexers: the current block's part is always at the bottom.

    Attributes
    ----------
    data : In(128)
        The lane's share of a beat.
    load_scale, load_high : In(1)
        The beat is a scale beat, a high beat.
    advance, has_minimum : In(1)
        The beat completes a block; its format has minima.
    scale, minimum : Out(16)
        Float16 scale and minimum of the current block, for the beats after the scale beat.
    high : Out(32)
        Bit 4 of the current block's codes, for the beats after the high beat.
    """

    data: In(8 * LANE_BYTES)
    load_scale: In(1)
    load_high: In(1)
    advance: In(1)
    has_minimum: In(1)
    scale: Out(FLOAT16_BITS)
    minimum: Out(FLOAT16_BITS)
    high: Out(BLOCK)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        scales = Signal(8 * LANE_BYTES, reset_less=True)
        highs = Signal(8 * LANE_BYTES, reset_less=True)
        with m.If(self.load_scale):
            m.d.sync += scales.eq(self.data)
        with m.Elif(self.advance):
            with m.If(self.has_minimum):
                m.d.sync += scales.eq(scales >> 2 * FLOAT16_BITS)
            with m.Else():
                m.d.sync += scales.eq(scales >> FLOAT16_BITS)
        with m.If(self.load_high):
            m.d.sync += highs.eq(self.data)
        with m.Elif(self.advance):
            m.d.sync += highs.eq(highs >> BLOCK)
        m.d.comb += [
            self.scale.eq(scales[:FLOAT16_BITS]),
            self.minimum.eq(scales[FLOAT16_BITS : 2 * FLOAT16_BITS]),
            self.high.eq(highs[:BLOCK]),
        ]
        return m
