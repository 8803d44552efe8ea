"""Words of floats, as the reductions take them."""

from amaranth.lib import data

WORD_ELEMENTS = (1, 2, 4)


def check_word_elements(word_elements: int) -> None:
    """Refuse words that no build has."""
    if word_elements not in WORD_ELEMENTS:
        raise ValueError(f"word_elements must be one of {WORD_ELEMENTS}, not {word_elements}")


def reduction_word_layout(word_elements: int) -> data.StructLayout:
    """Elements of a segment, the lowest first; `mask` says which of them there are; the first and last word of a segment."""
    return data.StructLayout({"data": data.ArrayLayout(32, word_elements), "mask": word_elements, "first": 1, "last": 1})
