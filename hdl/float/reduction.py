"""Reductions of segments of float32: sums and maxima."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.isa import Reduce

from .compare import flushed, negated
from .maximum import Maximum
from .total import Total
from .word import check_word_elements, reduction_word_layout

#: `resumed`: the value is that of `start`, which no element was greater than. For argmax.
result_layout = data.StructLayout({"value": 32, "index": 32, "resumed": 1})


class Reduction(wiring.Component):
    """Reduces segments of float32 to one number each, as `ELEMENTWISE` of `tailrace.spec.isa` says.

    Sums have the order of `tailrace.spec.floats.total`. Elements must be results of this package's units (flushed); `start` may
    be anything.

    `kind`, `negate`, `resume`, `start`, `start_index` and `index` are those of the segment whose first word is transferred, and
    are taken in that cycle. For kind NONE the words are taken and nothing is offered.

    The next segment is accepted when the result was taken. Throughput: one word a cycle, and for each segment that is not NONE
    the cycles from its last word to its result: `Maximum.latency` or `Total.latency`, and 1. Where `Total.overlaps`, sums that
    do not resume follow each other: all words of the next one but the last are taken meanwhile, but in the cycles that are
    `Total.reserved`.

    Parameters
    ----------
    word_elements : int
        Elements in a word: 1, 2 or 4.

    Attributes
    ----------
    i : In(stream.Signature(reduction_word_layout(word_elements)))
        Words. Element ``e`` of word ``w`` of a segment is element ``w * word_elements + e``. Masked-out elements do not take
        part.
    kind : In(Reduce)
    negate : In(1)
        The result's sign is changed (zero stays +0). Not for argmax.
    resume : In(1)
        Start from `start`: ``add(start, total)``; the greater of it and the maximum; for an argmax `start` with `start_index`
        wins against an equal element.
    start : In(32)
    start_index : In(32)
    index : In(32)
        Added to the position of an argmax.
    o : Out(stream.Signature(result_layout))
        Result: its value, and for an argmax its index.
    """

    def __init__(self, word_elements: int) -> None:
        check_word_elements(word_elements)
        self.word_elements = word_elements
        super().__init__(
            {
                "i": In(stream.Signature(reduction_word_layout(word_elements))),
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
        m = Module()
        m.submodules.maximum = maximum = Maximum(self.word_elements)
        m.submodules.total = total = Total(self.word_elements)
        transfer, first = self.i.valid & self.i.ready, self.i.payload.first

        sums, squares = self.kind == Reduce.SUM, self.kind == Reduce.SUM_OF_SQUARES
        given = {
            "sums": sums | squares,
            "squares": squares,
            "maxima": (self.kind != Reduce.NONE) & ~(sums | squares),
            "absolute": self.kind == Reduce.ABSOLUTE_MAXIMUM,
            "argmax": (self.kind == Reduce.ARGMAX) | (self.kind == Reduce.ARGMAX_REMOVE),
            "negate": self.negate,
            "resume": self.resume,
            "start": self.start,
            "start_index": self.start_index,
            "index": self.index,
        }
        held = {name: Signal(len(value), name=f"held_{name}", reset_less=True) for name, value in given.items()}
        with m.If(transfer & first):
            m.d.sync += [held[name].eq(value) for name, value in given.items()]
        # The first word sees what is given, the others what was.
        now = {name: Mux(first, value, held[name]) for name, value in given.items()}

        # A result is waited for; one that other sums may come before.
        busy, folding, negates = Signal(), Signal(), Signal()
        follows = now["sums"] & ~now["resume"]
        # Without sums that overlap, all is over when nothing is waited for.
        free = (follows | ~(folding | self.o.valid)) & (total.i.ready | ~now["sums"]) if total.overlaps else 1
        m.d.comb += [
            self.i.ready.eq(~busy & free),
            total.i.valid.eq(transfer & now["sums"]),
            total.i.payload.eq(self.i.payload),
            total.square.eq(now["squares"]),
            total.resume.eq(held["resume"]),
            total.start.eq(held["start"]),
            maximum.i.valid.eq(transfer & now["maxima"]),
            maximum.i.payload.eq(self.i.payload),
            maximum.absolute.eq(now["absolute"]),
            maximum.resume.eq(held["resume"]),
            maximum.start.eq(flushed(held["start"])),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += busy.eq(0)
        with m.If(total.o.valid & total.o.ready):
            m.d.sync += folding.eq(0)
        with m.If(transfer & self.i.payload.last):
            overlaps = follows & int(total.overlaps)
            m.d.sync += [folding.eq(overlaps), busy.eq((now["sums"] | now["maxima"]) & ~overlaps), negates.eq(now["negate"])]

        value, number = Signal(32), Signal(32)
        kept = held["argmax"] & maximum.o.payload.resumed
        m.d.comb += [
            number.eq(Mux(held["sums"], total.o.payload, maximum.o.payload.value)),
            value.eq(Mux(negates & ~held["argmax"], negated(number), number)),
            total.o.ready.eq(~self.o.valid),
            maximum.o.ready.eq(~self.o.valid),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(~self.o.valid):
            m.d.sync += [
                self.o.valid.eq(total.o.valid | maximum.o.valid),
                # What an argmax resumed from stays as it was, bit for bit.
                self.o.payload.value.eq(Mux(kept, held["start"], value)),
                self.o.payload.index.eq(Mux(kept, held["start_index"], maximum.o.payload.position + held["index"])),
                self.o.payload.resumed.eq(kept),
            ]
        return m
