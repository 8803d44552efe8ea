"""Words of floats, as the reductions take them."""

from amaranth.lib import data

LANES = (1, 2, 4)


def check_lanes(lanes: int) -> None:
    """Refuse a width that no build has."""
    if lanes not in LANES:
        raise ValueError(f"lanes must be one of {LANES}, not {lanes}")


def reduction_word_layout(lanes: int) -> data.StructLayout:
    """Elements of a segment, the lowest first; `mask` says which of them there are; the first and last word of a segment."""
    return data.StructLayout({"data": data.ArrayLayout(32, lanes), "mask": lanes, "first": 1, "last": 1})
