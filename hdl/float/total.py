"""The sum of a segment, in the order that does not depend on the width."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.commands import float_bits

from .add import FloatAdd
from .multiply import FloatMultiply
from .word import check_word_elements, reduction_word_layout

#: Partial sums, as `tailrace.spec.floats.total` has them.
PARTIAL_SUMS = 32
#: Cycles from a sum's operands being read to the sum being read: a register before the adder, and the memory after it.
_ROUND = 1 + FloatAdd.latency + 1
#: Entries of a distributed memory: if they are enough, two segments' partial sums lie there.
_MEMORY_DEPTH = 16


class _State(enum.Enum, shape=2):
    IDLE = 0
    FOLD = 1
    RESULT = 2


class Total(wiring.Component):
    """Adds up a segment, or the squares of its elements, as `tailrace.spec.floats.total` does.

    Adder ``e`` keeps the partial sums ``e``, ``e + word_elements``, ... Each gets an element every ``32 / word_elements``
    words, and by then the sum with the element before is there. After the last word the same adders fold the 32 partial sums
    to one.

    Where there is room for the partial sums of two segments (`overlaps`), words of the next one are added meanwhile, but in the
    cycles that the fold needs (`reserved`); the last one of them waits until the result was taken.

    Latency: `latency` cycles from the last word to the result, `FloatAdd.latency` + 2 more if it resumes. Throughput: one word
    a cycle.

    Parameters
    ----------
    word_elements : int
        Elements in a word: 1, 2 or 4.

    Attributes
    ----------
    i : In(stream.Signature(reduction_word_layout(word_elements)))
        Words; always ready until the last one of a segment was taken. If that one resumes, none must come until the result was
        taken.
    square : In(1)
        Add the elements' squares; with each word.
    resume : In(1)
        The result is ``add(start, total)``. From the cycle after the first word on until the result, as `start`.
    start : In(32)
    o : Out(stream.Signature(32))
    """

    def __init__(self, word_elements: int) -> None:
        check_word_elements(word_elements)
        self.word_elements = word_elements
        #: Whether there is room for two segments.
        self.overlaps = 2 * PARTIAL_SUMS // word_elements <= _MEMORY_DEPTH
        #: Sums in each level of the fold, in an adder; then adders that add another one's sum to theirs.
        self._within = [n for n in (16, 8, 4, 2, 1) if 2 * n <= PARTIAL_SUMS // word_elements]
        self._across = [n for n in (2, 1) if n < word_elements]
        cycle = _ROUND
        reserved: list[int] = []
        for sums in [*self._within, *(1 for _ in self._across)]:
            reserved += range(cycle, cycle + sums)
            cycle += sums + _wait(sums)
        #: Cycles behind a last word that does not resume in which no word is taken: those of the fold's sums, and of its end.
        self.reserved = (*reserved, cycle)
        #: Cycles from the last word to the result.
        self.latency = cycle + FloatMultiply.latency + 1
        super().__init__(
            {
                "i": In(stream.Signature(reduction_word_layout(word_elements))),
                "square": In(1),
                "resume": In(1),
                "start": In(32),
                "o": Out(stream.Signature(32)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        columns = range(self.word_elements)
        depth, banks = PARTIAL_SUMS // self.word_elements, 1 + self.overlaps
        word, taken = self.i.payload, Signal()
        m.d.comb += taken.eq(self.i.valid & self.i.ready)

        terms = []
        for n in columns:
            m.submodules[f"term_{n}"] = term = FloatMultiply()
            m.d.comb += [
                term.valid.eq(taken & word.mask[n]),
                term.a.eq(word.data[n]),
                term.b.eq(Mux(self.square, word.data[n], C(float_bits(1.0), 32))),
            ]
            terms.append(term)
        # What the fold does comes as late as terms do, and in a cycle in which no word was taken none comes.
        early, late = self._fold(m), Signal(_step_layout(self.word_elements))
        arriving, ending = Signal(), Signal()
        for at_first, behind in ((taken, arriving), (taken & word.last, ending), (early.as_value(), late.as_value())):
            m.d.comb += behind.eq(_later(m, at_first, FloatMultiply.latency))

        # Elements of an adder so far; the bank that they go to, and the one that is folded.
        element, bank, folded = Signal(range(depth)), Signal(range(banks)), Signal(range(banks))
        with m.If(arriving):
            m.d.sync += element.eq(Mux(ending, 0, element + 1))
        with m.If(ending):
            m.d.sync += [folded.eq(bank), bank.eq(~bank)]
        place, other = Signal(range(banks * depth)), Signal(range(banks * depth))
        m.d.comb += [
            place.eq(Mux(late.taken, Cat(late.place, folded), Cat(element, bank))),
            other.eq(Cat(late.other, folded)),
        ]
        # Where the sums inside the adders go.
        written = _later(m, place, 1 + FloatAdd.latency)

        adders, begin, sums, others = [], [], [], []
        for n in columns:
            m.submodules[f"adder_{n}"] = adder = FloatAdd()
            m.submodules[f"partial_{n}"] = memory = Memory(shape=32, depth=banks * depth, init=[])
            write, here, there = memory.write_port(), memory.read_port(domain="comb"), memory.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(adder.o_valid),
                write.addr.eq(written),
                write.data.eq(adder.o),
                here.addr.eq(place),
                there.addr.eq(other),
            ]
            # Partial sums that have got an element, of the segment that arrives and of the one that is folded. The others are
            # +0, as are sums of them.
            reached, of_fold = (Signal(range(depth + 1), name=f"{name}_{n}") for name in ("reached", "of_fold"))
            more = reached + (terms[n].o_valid & (reached != depth))
            with m.If(arriving):
                m.d.sync += reached.eq(Mux(ending, 0, more))
            with m.If(ending):
                m.d.sync += of_fold.eq(more)
            sums.append(Mux(Mux(late.taken, late.place < of_fold, element < reached), here.data, 0))
            others.append(Mux(late.other < of_fold, there.data, 0))
            adders.append(adder)
            begins = Signal(name=f"begin_{n}")
            m.d.comb += begins.eq(Mux(late.taken, late.begin[n], terms[n].o_valid))
            begin.append(begins)

        for n, adder in enumerate(adders):
            addend: Value = others[n]
            for distance in self._across:
                if n < distance:
                    addend = Mux(late.across == distance, sums[n + distance], addend)
            augend = sums[n] if n else Mux(late.resumes, self.start, sums[n])
            addend = addend if n else Mux(late.resumes, sums[n], addend)
            # Operands for the adders, one cycle before these get them.
            begun = Signal(name=f"begun_{n}")
            a, b = (Signal(32, reset_less=True, name=f"operand_{n}_{name}") for name in "ab")
            m.d.sync += begun.eq(begin[n])
            with m.If(begin[n]):
                m.d.sync += [a.eq(augend), b.eq(Mux(late.taken, addend, terms[n].o))]
            m.d.comb += [adder.valid.eq(begun), adder.a.eq(a), adder.b.eq(b)]

        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(late.final):
            m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(sums[0])]
        return m

    def _fold(self, m: Module) -> Any:
        """Its steps, one after the other, as many cycles early as a word is before its term."""
        state = Signal(_State)
        # Sums of each level, and one with the start.
        levels = [*self._within, *(1 for _ in self._across), 1]
        within = len(self._within)
        # A bit for each level that has begun, and for the start and the end.
        begun, count = Signal(len(levels) + 1, init=1), Signal(range(PARTIAL_SUMS // self.word_elements))
        # There is a step where its top bit is 0; and what it begins with after a level.
        wait = Signal(range(_waiting(_ROUND)), init=_waiting(_ROUND - 1))
        pause = Signal.like(wait)
        step = Signal(_step_layout(self.word_elements))
        resumes, ends = begun[-2] & ~begun[-1] & self.resume, begun[-1]
        last = self.i.valid & self.i.ready & self.i.payload.last
        between = ~step.taken & ~self.i.payload.last if self.overlaps else C(0, 1)
        # Sums of the level: the lowest bit that `count` does not reach in it. It is over when all bits below are set.
        distance = (begun & ~begun[1:])[:within][::-1]
        done = (count[:-1] | begun[1:within][::-1]).all()
        m.d.comb += [
            self.i.ready.eq((state == _State.IDLE) | between),
            step.taken.eq(~wait[-1]),
            step.final.eq(step.taken & begun[-2] & (ends | ~self.resume)),
            step.begin.eq((~begun[within]).replicate(self.word_elements)),
            step.place.eq(count),
            step.other.eq(count | distance),
            step.resumes.eq(step.taken & resumes),
        ]
        for here, sums in zip(begun, levels, strict=False):
            with m.If(here):
                m.d.comb += pause.eq(_waiting(_wait(sums)))
        for here, adders in zip(begun[within:], self._across, strict=False):
            with m.If(here):
                m.d.comb += [step.begin.eq((1 << adders) - 1), step.across.eq(adders)]
        with m.If(begun[-2]):
            m.d.comb += step.begin.eq(resumes)
        with m.Switch(state):
            with m.Case(_State.IDLE):
                m.d.sync += [begun.eq(1), count.eq(0), wait.eq(_waiting(_ROUND - 1))]
                with m.If(last):
                    m.d.sync += state.eq(_State.FOLD)
            with m.Case(_State.FOLD):
                with m.If(wait[-1]):
                    m.d.sync += wait.eq(wait - 1)
                with m.Else():
                    m.d.sync += count.eq(count + 1)
                    with m.If(done):
                        m.d.sync += [begun.eq(Cat(C(1, 1), begun)), count.eq(0), wait.eq(pause)]
                    with m.If(step.final):
                        m.d.sync += [state.eq(_State.RESULT), wait.eq(_waiting(1))]
            with m.Case(_State.RESULT), m.If(self.o.valid & self.o.ready):
                m.d.sync += state.eq(_State.IDLE)
        return step


def _step_layout(word_elements: int) -> data.StructLayout:
    """What the fold does in a cycle.

    The adders of ``begin`` add partial sums ``place`` and ``other``, or that of the adder ``across`` further, or with
    ``resumes`` the start. ``taken``: there is a step, and ``final``: it is the last one, which adds nothing.
    """
    depth = PARTIAL_SUMS // word_elements
    return data.StructLayout(
        {
            "taken": 1,
            "final": 1,
            "begin": word_elements,
            "place": range(depth),
            "other": range(depth),
            "across": 2,
            "resumes": 1,
        }
    )


def _later(m: Module, value: Value, cycles: int) -> Value:
    """A value, so many cycles later."""
    for _ in range(cycles):
        held = Signal(len(value))
        m.d.sync += held.eq(value)
        value = held
    return value


def _wait(sums: int) -> int:
    """Cycles after the last of so many sums until half as many can be formed of them: the sum in their middle must be there."""
    return max(_ROUND - max(sums // 2, 1), 0)


def _waiting(cycles: int) -> int:
    """What a counter begins with that counts down for so many cycles until its top bit is 0."""
    return (1 << (_ROUND - 2).bit_length()) + cycles - 1
