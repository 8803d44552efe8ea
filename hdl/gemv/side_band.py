"""The side band of a lane: scales, subscales and upper bits of codes that travel ahead of the nibbles they belong to."""

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value, signed
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


def unpacked(beat: Value) -> list[Value]:
    """Subscale (6 bits) and subminimum (6 bits) of each block of a superblock, as in ggml's ``get_scale_min_k4``."""
    parts = [beat.word_select(4 + n, 8) for n in range(12)]
    found = []
    for n in range(SUPERBLOCK):
        if n < 4:
            found.append(Cat(parts[n][:6], parts[n + 4][:6]))
        else:
            found.append(Cat(parts[n + 4][:4], parts[n - 4][6:], parts[n + 4][4:], parts[n][6:]))
    return found


def unpacked_signed(half: Value) -> list[Value]:
    """The subscale of each block of a superblock in ggml's ``block_iq4_xs``; top bits are inverted, which takes 32 off."""
    uppers, lowers = half[FLOAT16_BITS : 2 * FLOAT16_BITS], half[2 * FLOAT16_BITS :]
    subscales = (Cat(lowers.word_select(n, 4), uppers.word_select(n, 2)) ^ 1 << (PACKED_BITS - 1) for n in range(SUPERBLOCK))
    return [subscale[:PACKED_BITS] for subscale in subscales]


#: What the side beats hold for a block: its scale and its minimum, and its subscales in each of the places where they may lie.
#: ``byte`` is the byte of ``scale`` that is an exponent, ``second`` which of two superblocks it is.
_chosen_layout = data.StructLayout(
    {
        "scale": FLOAT16_BITS,
        "byte": 1,
        "minimum": FLOAT16_BITS,
        "octets": data.ArrayLayout(SUBSCALE_BITS, HALVES),
        "share": PACKED_BITS,
        "subminimum": PACKED_BITS,
        "signed_shares": data.ArrayLayout(signed(PACKED_BITS), 2),
        "second": 1,
        "upper": 1,
        "traits": lane_traits_layout,
    }
)


class SideBand(wiring.Component):
    """Holds the last side beat of each kind of a lane as it came, and chooses the current block's part of it.

    Multiplexers, not shift registers: those would have to load, to keep and to move each bit by as many distances as there are
    formats, and cost twice as many LUTs. What is chosen is registered before the format says how it is read, and only for
    nibble beats, so that a simulator need not choose in others.

    Latency: `latency` cycles from a nibble beat to its scales; a side beat counts for the beats behind it. Throughput: one beat
    a cycle.

    Attributes
    ----------
    data : In(128)
        The lane's share of a beat.
    traits : In(lane_traits_layout)
    load_scale, load_subscale, load_high : In(1)
        The beat is a side beat of that kind.
    nibble : In(1)
        There is a nibble beat.
    advance, superblock : In(1)
        The beat completes a block, and that block a superblock.
    upper : In(1)
        The beat has the upper nibbles of 8-bit codes, which weigh 16 times as much.
    scales : Out(block_scales_layout)
        Of the last nibble beat.
    high : Out(64)
        Upper bits of the current block's codes in the lowest bits, for the beats after the high beat.
    """

    #: Cycles from a nibble beat to its scales.
    latency = 2

    data: In(LANE_BITS)
    traits: In(lane_traits_layout)
    load_scale: In(1)
    load_subscale: In(1)
    load_high: In(1)
    nibble: In(1)
    advance: In(1)
    superblock: In(1)
    upper: In(1)
    scales: Out(block_scales_layout)
    high: Out(HIGH_BITS)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kind, has_minimum = self.traits.scale_kind, self.traits.has_minimum

        scales = Signal(LANE_BITS, reset_less=True)
        subscales = Signal(LANE_BITS, reset_less=True)
        highs = Signal(LANE_BITS, reset_less=True)
        # Of the current block: the byte of its scale, its number in its superblock, the word of its upper bits.
        place = Signal(range(LANE_BYTES), reset_less=True)
        block = Signal(range(SUPERBLOCK), reset_less=True)
        high_place = Signal(range(LANE_BITS // BLOCK), reset_less=True)
        # How far the place moves, by the format of the cycle before: a format begins with its scale beat, which moves nothing.
        moves, for_superblock = Signal(range(LANE_BYTES), reset_less=True), Signal(reset_less=True)
        numbers = Mux(has_minimum, 4, 2)
        m.d.sync += [moves.eq(0), for_superblock.eq(0)]
        with m.Switch(kind):
            with m.Case(SCALE_KINDS.index(ScaleKind.FLOAT16), SCALE_KINDS.index(ScaleKind.FLOAT8)):
                m.d.sync += moves.eq(numbers)
            with m.Case(SCALE_KINDS.index(ScaleKind.EXPONENT)):
                m.d.sync += moves.eq(1)
            with m.Case(SCALE_KINDS.index(ScaleKind.SIGNED_SUPERBLOCK)):
                m.d.sync += [moves.eq(LANE_BYTES // 2), for_superblock.eq(1)]
            with m.Case(SCALE_KINDS.index(ScaleKind.FLOAT16_SUPERBLOCK)):
                m.d.sync += [moves.eq(numbers), for_superblock.eq(1)]
        with m.If(self.load_scale):
            m.d.sync += [scales.eq(self.data), place.eq(0)]
        with m.Elif(self.advance & (self.superblock | ~for_superblock)):
            m.d.sync += place.eq(place + moves)
        with m.If(self.load_subscale):
            m.d.sync += subscales.eq(self.data)
        # Beats with subscales come where a superblock begins.
        with m.If(self.load_scale | self.load_subscale):
            m.d.sync += block.eq(0)
        with m.Elif(self.advance):
            m.d.sync += block.eq(block + 1)
        with m.If(self.load_high):
            m.d.sync += [highs.eq(self.data), high_place.eq(0)]
        with m.Elif(self.advance):
            m.d.sync += high_place.eq(high_place + self.traits.high_bits)
        second = Mux(high_place[1], highs[3 * BLOCK :], highs[BLOCK : 2 * BLOCK])
        m.d.comb += self.high.eq(Cat(highs.word_select(high_place, BLOCK), second))

        chosen = Signal(_chosen_layout, reset_less=True)
        pair = scales.word_select(place[2:], 2 * FLOAT16_BITS)
        halves = scales[: LANE_BITS // 2], scales[LANE_BITS // 2 :]
        with m.If(self.nibble):
            m.d.sync += [
                chosen.scale.eq(pair.word_select(place[1], FLOAT16_BITS)),
                chosen.byte.eq(place[0]),
                chosen.minimum.eq(pair[FLOAT16_BITS:]),
                Cat(chosen.share, chosen.subminimum).eq(Array(unpacked(scales))[block]),
                *(
                    share.eq(Array(unpacked_signed(half))[block])
                    for share, half in zip(chosen.signed_shares, halves, strict=True)
                ),
                chosen.second.eq(place[3]),
                chosen.octets.as_value().eq(subscales.word_select(block, HALVES * SUBSCALE_BITS)),
                chosen.upper.eq(self.upper),
                chosen.traits.eq(self.traits),
            ]

        found, kind = Signal(block_scales_layout), chosen.traits.scale_kind
        m.d.sync += self.scales.eq(found)
        weight = 1 << NIBBLE_BITS
        m.d.comb += [
            found.scale.eq(chosen.scale),
            found.exponent_only.eq(kind == SCALE_KINDS.index(ScaleKind.EXPONENT)),
            found.minimum.eq(chosen.minimum),
            *(subminimum.eq(1) for subminimum in found.subminima),
            *(subscale.eq(1) for subscale in found.subscales),
        ]
        with m.If(chosen.upper):
            m.d.comb += [found.subscales[0].eq(weight), found.subscales[1].eq(weight)]
        with m.If(chosen.traits.subscales):
            m.d.comb += found.subscales.as_value().eq(chosen.octets.as_value())
            with m.If(chosen.traits.has_minimum):
                for half, octet in enumerate(chosen.octets):
                    m.d.comb += [found.subscales[half].eq(octet[:NIBBLE_BITS]), found.subminima[half].eq(octet[NIBBLE_BITS:])]
        with m.Switch(kind):
            with m.Case(SCALE_KINDS.index(ScaleKind.EXPONENT)):
                m.d.comb += found.scale.eq(chosen.scale.word_select(chosen.byte, 8))
            with m.Case(SCALE_KINDS.index(ScaleKind.SUPERBLOCK)):
                m.d.comb += [
                    *(subscale.eq(chosen.share) for subscale in found.subscales),
                    *(subminimum.eq(chosen.subminimum) for subminimum in found.subminima),
                    # The minimum is -dmin.
                    found.minimum.eq(chosen.minimum ^ 1 << (FLOAT16_BITS - 1)),
                ]
            with m.Case(SCALE_KINDS.index(ScaleKind.SIGNED_SUPERBLOCK)):
                m.d.comb += [subscale.eq(chosen.signed_shares[chosen.second]) for subscale in found.subscales]
            with m.Case(SCALE_KINDS.index(ScaleKind.FLOAT8)):
                m.d.comb += [
                    found.scale.eq(Cat(C(0, FLOAT8_PLACES), chosen.scale[:8])),
                    found.minimum.eq(Cat(C(0, FLOAT8_PLACES), chosen.scale[8:])),
                    # The second half meets its scale where the first half of other blocks meets its minimum.
                    found.subscales[1].eq(0),
                    found.subminima[1].eq(0),
                ]
            with m.Case(SCALE_KINDS.index(ScaleKind.UNIT)):
                m.d.comb += [found.scale.eq(ONE), found.subscales[1].eq(weight)]
        return m
