"""The side band of a lane: scales, subscales and upper bits of codes that travel ahead of the nibbles they belong to."""

from amaranth.hdl import C, Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.formats import BLOCK, LANE_BYTES, SUPERBLOCK, ScaleKind

from ..float.float16 import FLOAT16_BITS
from ..slots.vector_block import HALVES
from .traits import NIBBLE_BITS, SCALE_KINDS, lane_traits_layout

LANE_BITS = 8 * LANE_BYTES
#: Bits of a subscale in a beat of its own, and of one in a superblock's scale beat.
SUBSCALE_BITS, PACKED_BITS = 8, 6
#: Upper bits of the codes of a block, at most.
HIGH_BITS = 2 * BLOCK
#: Places that a number of FP8 is moved by to be a float16.
FLOAT8_PLACES = 7
#: The scale 1.0 as a float16.
ONE = 0x3C00

#: What the sums of a block are multiplied with. ``scale`` is a float16, or a power of two if ``exponent_only``: then its lowest
#: byte is the exponent. The sums of elements 0 to 15 and of 16 to 31 have a subscale and a subminimum each. ``minimum`` is a
#: float16; where the halves of a block have scales of their own, that of elements 16 to 31.
block_scales_layout = data.StructLayout(
    {
        "scale": FLOAT16_BITS,
        "exponent_only": 1,
        "subscales": data.ArrayLayout(signed(SUBSCALE_BITS), HALVES),
        "minimum": FLOAT16_BITS,
        "subminima": data.ArrayLayout(PACKED_BITS, HALVES),
    }
)


def unpacked(beat: Signal) -> list[Signal]:
    """The 6-bit subscale and subminimum of each block of a superblock, as in ggml's ``get_scale_min_k4``."""
    parts = [beat.word_select(4 + n, 8) for n in range(12)]
    found = []
    for n in range(SUPERBLOCK):
        if n < 4:
            found += [parts[n][:6], parts[n + 4][:6]]
        else:
            found += [Cat(parts[n + 4][:4], parts[n - 4][6:]), Cat(parts[n + 4][4:], parts[n][6:])]
    return found


def unpacked_signed(beat: Value) -> Value:
    """``d`` and the subscales in order, of ggml's ``block_iq4_xs``; top bits are inverted, which takes 32 off."""
    scale, uppers, lowers = beat[:FLOAT16_BITS], beat[FLOAT16_BITS : 2 * FLOAT16_BITS], beat[2 * FLOAT16_BITS :]
    subscales = (Cat(lowers.word_select(n, 4), uppers.word_select(n, 2)) ^ 1 << (PACKED_BITS - 1) for n in range(SUPERBLOCK))
    return Cat(scale, *(subscale[:PACKED_BITS] for subscale in subscales))


class SideBand(wiring.Component):
    """Holds the last side beat of each kind of a lane and moves on by one block at a time.

    Shift registers, not multiplexers: the current block's part is always at the bottom. The packed subscales of a superblock
    are put in their order when they are loaded.

    Latency: 1 cycle from a side beat to its scales. Throughput: one beat a cycle.

    Attributes
    ----------
    data : In(128)
        The lane's share of a beat.
    traits : In(lane_traits_layout)
    load_scale, load_subscale, load_high : In(1)
        The beat is a side beat of that kind.
    advance, superblock : In(1)
        The beat completes a block, and that block a superblock.
    upper : In(1)
        The beat has the upper nibbles of 8-bit codes, which weigh 16 times as much.
    scales : Out(block_scales_layout)
        Of the current block, for the beats after the scale beat.
    high : Out(64)
        Upper bits of the current block's codes in the lowest bits, for the beats after the high beat.
    """

    #: Cycles from a side beat to what it says of the blocks behind it.
    latency = 1

    data: In(LANE_BITS)
    traits: In(lane_traits_layout)
    load_scale: In(1)
    load_subscale: In(1)
    load_high: In(1)
    advance: In(1)
    superblock: In(1)
    upper: In(1)
    scales: Out(block_scales_layout)
    high: Out(HIGH_BITS)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kind, has_minimum = self.traits.scale_kind, self.traits.has_minimum
        packed, packed_signed = Signal(), Signal()
        m.d.comb += [
            packed.eq(kind == SCALE_KINDS.index(ScaleKind.SUPERBLOCK)),
            packed_signed.eq(kind == SCALE_KINDS.index(ScaleKind.SIGNED_SUPERBLOCK)),
        ]

        scales = Signal(LANE_BITS, reset_less=True)
        subscales = Signal(LANE_BITS, reset_less=True)
        highs = Signal(LANE_BITS, reset_less=True)
        floats, shares = scales[: 2 * FLOAT16_BITS], scales[2 * FLOAT16_BITS :]
        signed_shares = scales[FLOAT16_BITS : LANE_BITS // 2]
        with m.If(self.load_scale):
            m.d.sync += scales.eq(self.data)
            with m.If(packed):
                m.d.sync += shares.eq(Cat(unpacked(self.data)))
            with m.If(packed_signed):
                m.d.sync += scales.eq(
                    Cat(unpacked_signed(half) for half in (self.data[: LANE_BITS // 2], self.data[LANE_BITS // 2 :]))
                )
        with m.Elif(self.advance), m.Switch(kind):
            with m.Case(SCALE_KINDS.index(ScaleKind.FLOAT16), SCALE_KINDS.index(ScaleKind.FLOAT8)):
                with m.If(has_minimum):
                    m.d.sync += scales.eq(scales.shift_right(2 * FLOAT16_BITS))
                with m.Else():
                    m.d.sync += scales.eq(scales.shift_right(FLOAT16_BITS))
            with m.Case(SCALE_KINDS.index(ScaleKind.EXPONENT)):
                m.d.sync += scales.eq(scales.shift_right(8))
            with m.Case(SCALE_KINDS.index(ScaleKind.SUPERBLOCK)):
                m.d.sync += shares.eq(shares.shift_right(2 * PACKED_BITS))
            with m.Case(SCALE_KINDS.index(ScaleKind.SIGNED_SUPERBLOCK)):
                with m.If(self.superblock):
                    m.d.sync += scales.eq(scales.shift_right(LANE_BITS // 2))
                with m.Else():
                    m.d.sync += signed_shares.eq(signed_shares.shift_right(PACKED_BITS))
            with m.Case(SCALE_KINDS.index(ScaleKind.FLOAT16_SUPERBLOCK)):
                with m.If(self.superblock & has_minimum):
                    m.d.sync += scales.eq(scales.shift_right(2 * FLOAT16_BITS))
                with m.Elif(self.superblock):
                    m.d.sync += scales.eq(scales.shift_right(FLOAT16_BITS))
        with m.If(self.load_subscale):
            m.d.sync += subscales.eq(self.data)
        with m.Elif(self.advance):
            m.d.sync += subscales.eq(subscales.shift_right(2 * SUBSCALE_BITS))
        with m.If(self.load_high):
            m.d.sync += highs.eq(self.data)
        with m.Elif(self.advance & (self.traits.high_bits == 1)):
            m.d.sync += highs.eq(highs.shift_right(BLOCK))
        with m.Elif(self.advance & (self.traits.high_bits == 2)):
            m.d.sync += highs.eq(highs.shift_right(HIGH_BITS))

        found = self.scales
        weight = 1 << NIBBLE_BITS
        m.d.comb += [
            found.scale.eq(floats[:FLOAT16_BITS]),
            found.exponent_only.eq(kind == SCALE_KINDS.index(ScaleKind.EXPONENT)),
            found.minimum.eq(floats[FLOAT16_BITS:]),
            *(subminimum.eq(1) for subminimum in found.subminima),
            *(subscale.eq(1) for subscale in found.subscales),
            self.high.eq(highs[:HIGH_BITS]),
        ]
        with m.If(self.upper):
            m.d.comb += [found.subscales[0].eq(weight), found.subscales[1].eq(weight)]
        with m.If(self.traits.subscales):
            m.d.comb += found.subscales.as_value().eq(subscales)
            with m.If(has_minimum):
                for half in range(HALVES):
                    octet = subscales.word_select(half, SUBSCALE_BITS)
                    m.d.comb += [found.subscales[half].eq(octet[:NIBBLE_BITS]), found.subminima[half].eq(octet[NIBBLE_BITS:])]
        with m.Switch(kind):
            with m.Case(SCALE_KINDS.index(ScaleKind.SUPERBLOCK)):
                m.d.comb += [
                    *(subscale.eq(shares[:PACKED_BITS]) for subscale in found.subscales),
                    *(subminimum.eq(shares[PACKED_BITS : 2 * PACKED_BITS]) for subminimum in found.subminima),
                    # The minimum is -dmin.
                    found.minimum.eq(floats[FLOAT16_BITS:] ^ 1 << (FLOAT16_BITS - 1)),
                ]
            with m.Case(SCALE_KINDS.index(ScaleKind.SIGNED_SUPERBLOCK)):
                m.d.comb += [subscale.eq(signed_shares[:PACKED_BITS].as_signed()) for subscale in found.subscales]
            with m.Case(SCALE_KINDS.index(ScaleKind.FLOAT8)):
                octets = floats[:FLOAT16_BITS]
                m.d.comb += [
                    found.scale.eq(Cat(C(0, FLOAT8_PLACES), octets[:8])),
                    found.minimum.eq(Cat(C(0, FLOAT8_PLACES), octets[8:])),
                    # The second half meets its scale where the first half of other blocks meets its minimum.
                    found.subscales[1].eq(0),
                    found.subminima[1].eq(0),
                ]
            with m.Case(SCALE_KINDS.index(ScaleKind.UNIT)):
                m.d.comb += [found.scale.eq(ONE), found.subscales[1].eq(weight)]
        return m
