"""The list of linear attention grows by a token: its keys and what it adds to the state, as two planes of codes each."""

from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Cache

from .planes import scale_down, take_apart
from .state_places import StatePlaces


def append_keys(heads: StatePlaces, s: int) -> None:
    """Append a sequence's keys."""
    w, a, layout, size = heads.w, heads.a, heads.layout, heads.a.key_size
    blocks, at = 2 * a.keys // BLOCK, heads.apart
    for half in (at, at + size):
        w.commands.elementwise(heads.key(s), size, a.key_heads, a_stride=size, to=half, d_stride=2 * size)
    scale_down(w.commands, at, blocks, BLOCK, heads.scratch, heads.lengths, Function.HALF)
    take_apart(w.commands, at + size, at, at + size, a.key_heads, size, 2 * size)
    w.commands.append(
        Cache.KEYS, a=at, scales=heads.lengths, count=2 * size, heads=a.key_heads, a_stride=2 * size,
        destination=heads.part(s, "keys"), head_stride=layout.key_stride, token=heads.entries(s),
    )  # fmt: skip


def append_deltas(heads: StatePlaces, s: int) -> None:
    """Append what a sequence's token adds to its state, which lies in place of its values."""
    w, a, layout, size = heads.w, heads.a, heads.layout, heads.a.value_size
    value, count = heads.value(s), a.value_heads
    scale_down(w.commands, value, count, size, heads.scratch, heads.lengths)
    take_apart(w.commands, value, heads.apart, value, count, size, size)
    planes = (
        (heads.apart, heads.lengths, "deltas", "scales"),
        (value, heads.logs + s * heads.stride, "lower_deltas", "logs"),
    )
    for entry, scales, codes, places in planes:
        w.commands.append(
            Cache.VALUES, a=entry, scales=scales, count=size, heads=count, a_stride=size, destination=heads.part(s, codes),
            head_stride=layout.delta_stride, row_stride=layout.delta_row_stride, scale_place=heads.part(s, places),
            scale_stride=layout.scale_stride, token=heads.entries(s),
        )  # fmt: skip
