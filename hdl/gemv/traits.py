"""The attributes of a format, decoded once for each command from the table of formats in the contract."""

from amaranth.hdl import Module, ValueLike
from amaranth.lib import data

from tailrace.spec.formats import CODEBOOKS, FORMATS, SUPERBLOCK, BeatKind, ScaleKind

#: Bits of a nibble.
NIBBLE_BITS = 4
#: Bits of a code on its way to a multiplier, signed: as many as the values of the codebooks have.
CODE_BITS = 8
#: The kinds of side beats, in the order in which they come.
SIDE_KINDS = (BeatKind.SCALE, BeatKind.SUBSCALE, BeatKind.HIGH)
#: A scale's kind is told by its index here.
SCALE_KINDS: tuple[ScaleKind, ...] = tuple(ScaleKind)

#: What the lanes need to know about a format. ``subscales`` lie in beats of their own. ``centred`` codes are signed, their
#: offset is half their range. ``codebook`` is an index of `CODEBOOKS`.
lane_traits_layout = data.StructLayout(
    {
        "scale_kind": range(len(SCALE_KINDS)),
        "has_minimum": 1,
        "subscales": 1,
        "centred": 1,
        "codebook": range(len(CODEBOOKS)),
        "high_bits": range(3),
    }
)

#: ``sides`` has a bit for each of `SIDE_KINDS` that the format has; ``last`` are the blocks that such a beat serves, less one.
#: For subscale beats these are a superblock, whether its subscales lie in a beat of their own or not. ``more_planes`` are the
#: blocks that meet the same block of the vectors behind the first one.
traits_layout = data.StructLayout(
    {
        "two_beats": 1,
        "more_planes": range(max(f.planes for f in FORMATS)),
        "sides": len(SIDE_KINDS),
        "last": data.ArrayLayout(range(max(blocks for f in FORMATS for _, blocks in f.side_beats())), len(SIDE_KINDS)),
        "lane": lane_traits_layout,
    }
)


def decode_traits(m: Module, number: ValueLike, traits: data.View) -> None:
    """Drive `traits` (combinational) with the attributes of the format with that number; zeros for an unknown one."""
    with m.Switch(number):
        for f in FORMATS:
            offsets = {0: (0, 8), 1: (0, 16), 2: (32,)}.get(f.high_bits, ()) if f.nibble_beats == 1 else (0,)
            if f.code_offset not in offsets or f.nibble_beats not in (1, 2) or (f.nibble_beats == 2 and f.high_bits):
                raise ValueError(
                    "the engine reads codes of two nibbles, or of one nibble and at most two upper bits, and an offset of half"
                    f" their range or, below 6 bits, none; not {f}"
                )
            sides = dict(f.side_beats())
            served = {BeatKind.SUBSCALE: SUPERBLOCK} | sides
            with m.Case(f.number):
                m.d.comb += [
                    traits.two_beats.eq(f.nibble_beats == 2),
                    traits.more_planes.eq(f.planes - 1),
                    traits.sides.eq(sum((kind in sides) << n for n, kind in enumerate(SIDE_KINDS))),
                    *(traits.last[n].eq(served.get(kind, 1) - 1) for n, kind in enumerate(SIDE_KINDS)),
                    traits.lane.scale_kind.eq(SCALE_KINDS.index(f.scale_kind)),
                    traits.lane.has_minimum.eq(f.has_minimum),
                    traits.lane.subscales.eq(f.subscale_blocks > 0),
                    traits.lane.centred.eq(f.code_offset != 0),
                    traits.lane.codebook.eq(CODEBOOKS.index(f.codebook)),
                    traits.lane.high_bits.eq(f.high_bits),
                ]
