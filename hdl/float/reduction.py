"""Reductions of segments of float32: sums and maxima."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.isa import Reduce

LANES = (1, 2, 4)

result_layout = data.StructLayout({"value": 32, "index": 32})


def reduction_word_layout(lanes: int) -> data.StructLayout:
    """Elements of a segment, the lowest first; `mask` says which of them there are."""
    return data.StructLayout({"data": data.ArrayLayout(32, lanes), "mask": lanes, "first": 1, "last": 1})


class Reduction(wiring.Component):
    """Reduces segments of float32 to one number each, as `ELEMENTWISE` of `tailrace.spec.isa` says.

    Sums have the order of `tailrace.spec.floats.total`. Elements must be results of this package's units (flushed).

    `kind`, `negate`, `resume`, `start`, `start_index` and `index` are those of the segment whose first word is transferred, and are
    taken in that cycle. For kind NONE the words are taken and nothing is offered.

    The next segment is accepted when the result was taken.

    Parameters
    ----------
    lanes : int
        Elements in a word: 1, 2 or 4.

    Attributes
    ----------
    i : In(stream.Signature(reduction_word_layout(lanes)))
        Words. Element ``e`` of word ``w`` of a segment is element ``w * lanes + e``. Masked-out elements do not take part.
    kind : In(Reduce)
    negate : In(1)
        The result's sign is changed (zero stays +0). Not for argmax.
    resume : In(1)
        Start from `start`: ``add(start, total)``; the greater of it and the maximum; for an argmax `start` with `start_index` wins
        against an equal element.
    start : In(32)
    start_index : In(32)
    index : In(32)
        Added to the position of an argmax.
    o : Out(stream.Signature(result_layout))
        Result: its value, and for an argmax its index.
    """

    def __init__(self, lanes: int) -> None:
        if lanes not in LANES:
            raise ValueError(f"lanes must be one of {LANES}, not {lanes}")
        self.lanes = lanes
        super().__init__(
            {
                "i": In(stream.Signature(reduction_word_layout(lanes))),
                "kind": In(Reduce),
                "negate": In(1),
                "resume": In(1),
                "start": In(32),
                "start_index": In(32),
                "index": In(32),
                "o": Out(stream.Signature(result_layout)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        raise NotImplementedError
