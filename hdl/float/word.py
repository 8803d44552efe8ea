"""Words of floats, as the reductions take them."""

from amaranth.lib import data

WIDTHS = (1, 2, 4)


def check_width(width: int) -> None:
    """Refuse a width that no build has."""
    if width not in WIDTHS:
        raise ValueError(f"width must be one of {WIDTHS}, not {width}")


def reduction_word_layout(width: int) -> data.StructLayout:
    """Elements of a segment, the lowest first; `mask` says which of them there are; the first and last word of a segment."""
    return data.StructLayout({"data": data.ArrayLayout(32, width), "mask": width, "first": 1, "last": 1})
