"""The largest element of a segment, and where it is."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .compare import exceeds, from_order, order
from .float32 import SIGN
from .pipeline import Pipeline
from .word import check_word_elements, reduction_word_layout

#: Bits of a position: a segment has at most 65536 elements.
POSITION_BITS = 16

#: A key (`order`), and the element's place among those that were compared with it.
_Best = tuple[Value, Value | None]

maximum_layout = data.StructLayout({"value": 32, "position": POSITION_BITS, "resumed": 1})


class Maximum(wiring.Component):
    """Finds the first of a segment's largest elements.

    The elements of a word are compared in pairs, then with the largest so far, as integers of the same order.

    Latency: `latency` cycles from the last word to the result. Throughput: one word a cycle.

    Parameters
    ----------
    word_elements : int
        Elements in a word: 1, 2 or 4.

    Attributes
    ----------
    i : In(stream.Signature(reduction_word_layout(word_elements)))
        Words; always ready. After the last word of a segment none must come until the result was taken.
    absolute : In(1)
        The largest magnitude; with each word.
    resume : In(1)
        Start from `start`; it wins against an equal element. From the cycle after the first word on.
    start : In(32)
        Flushed.
    o : Out(stream.Signature(maximum_layout))
        The value, the position of the element in the segment, and whether it is `start` instead (which has no position).
    """

    def __init__(self, word_elements: int) -> None:
        check_word_elements(word_elements)
        self.word_elements = word_elements
        #: Cycles from the last word to the result.
        self.latency = max(word_elements.bit_length() - 1, 1) + 2
        super().__init__(
            {
                "i": In(stream.Signature(reduction_word_layout(word_elements))),
                "absolute": In(1),
                "resume": In(1),
                "start": In(32),
                "o": Out(stream.Signature(maximum_layout)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = self.i.payload
        pipeline = Pipeline(m, Signal(init=1), self.i.valid)
        m.d.comb += self.i.ready.eq(1)

        # What is masked out is below every number.
        numbers = [Cat(x[:SIGN], x[SIGN] & ~self.absolute) for x in word.data]
        best: list[_Best] = [(Mux(word.mask[n], order(x), 0), None) for n, x in enumerate(numbers)]
        first, last = word.first, word.last
        for _ in range(self.latency - 1):
            best = [_larger(*best[n : n + 2]) if len(best) > 1 else best[n] for n in range(0, len(best), 2)]
            begins = pipeline.valid & first
            places = [place for _, place in best if place is not None]
            stage = pipeline.stage(first=first, last=last, key=[key for key, _ in best], place=places)
            best = list(zip(stage.key, stage.place or [None] * len(best), strict=True))
            first, last = stage.first, stage.last
        [(key, place)] = best

        largest = Signal(32, reset_less=True)
        position = Signal(POSITION_BITS, reset_less=True)
        resumed = Signal(reset_less=True)
        words = Signal(POSITION_BITS, reset_less=True)
        here = Signal(POSITION_BITS)
        m.d.comb += here.eq(Mux(first, 0, words))
        # The start takes its place while a segment's first word is one stage before the comparison, and none is in front of it.
        # So what comes to be the largest is known before the comparison says whether it does.
        larger = Signal()
        m.d.comb += larger.eq(pipeline.valid & exceeds(key, largest))
        with m.If(begins | larger):
            begun = Mux(self.resume, order(self.start), 0)
            m.d.sync += [
                largest.eq(Mux(pipeline.valid, key, begun)),
                resumed.eq(~pipeline.valid & self.resume),
            ]
        with m.If(larger):
            m.d.sync += position.eq(here if place is None else Cat(place, here))
        with m.If(pipeline.valid):
            m.d.sync += words.eq(here + 1)
            with m.If(last):
                m.d.sync += self.o.valid.eq(1)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        m.d.comb += [
            self.o.payload.value.eq(from_order(largest)),
            self.o.payload.position.eq(position),
            self.o.payload.resumed.eq(resumed),
        ]
        return m


def _larger(a: _Best, b: _Best) -> _Best:
    """The larger one, or the first of equal ones."""
    second = exceeds(b[0], a[0])
    if a[1] is None or b[1] is None:
        return Mux(second, b[0], a[0]), second
    return Mux(second, b[0], a[0]), Cat(Mux(second, b[1], a[1]), second)
