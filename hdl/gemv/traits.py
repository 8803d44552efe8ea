"""The attributes of a weight format, decoded once for each command from the table of formats in the contract."""

from amaranth.hdl import Module, ValueLike
from amaranth.lib import data

from tailrace.spec.formats import FORMATS

#: Bits of a nibble.
NIBBLE_BITS = 4
#: Bits of a code on its way to a multiplier: nibble and upper bits.
CODE_BITS = NIBBLE_BITS + max(f.high_bits for f in FORMATS)
#: Offset of a nibble that is signed: its top bit is inverted, and it counts from here.
SIGNED_OFFSET = 1 << (NIBBLE_BITS - 1)
#: All offsets of codes. A beat says which by its index here.
OFFSETS: tuple[int, ...] = tuple(sorted({0, SIGNED_OFFSET} | {f.code_offset for f in FORMATS}))

#: ``scale_blocks`` and ``high_blocks`` are the blocks of a scale beat and of a high beat, less one.
traits_layout = data.StructLayout(
    {
        "two_beats": 1,
        "has_high": 1,
        "has_minimum": 1,
        "offset": range(len(OFFSETS)),
        "scale_blocks": range(max(f.blocks_per_scale_beat for f in FORMATS)),
        "high_blocks": range(max(f.blocks_per_high_beat for f in FORMATS)),
    }
)


def decode_traits(m: Module, number: ValueLike, traits: data.View) -> None:
    """Drive `traits` (combinational) with the attributes of the format with that number; zeros for an unknown one."""
    with m.Switch(number):
        for f in FORMATS:
            if f.high_bits not in (0, 1) or f.nibble_beats not in (1, 2):
                raise ValueError(f"the engine reads one or two nibbles and at most one upper bit of a code, not {f}")
            with m.Case(f.number):
                m.d.comb += [
                    traits.two_beats.eq(f.nibble_beats == 2),
                    traits.has_high.eq(f.high_bits != 0),
                    traits.has_minimum.eq(f.has_minimum),
                    traits.offset.eq(OFFSETS.index(f.code_offset)),
                    traits.scale_blocks.eq(f.blocks_per_scale_beat - 1),
                    traits.high_blocks.eq(max(f.blocks_per_high_beat - 1, 0)),
                ]
