"""The sum of a segment, in the order that does not depend on the width."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.commands import float_bits

from .add import FloatAdd
from .multiply import FloatMultiply
from .word import check_width, reduction_word_layout

#: Partial sums, as `tailrace.spec.floats.total` has them.
PARTIAL_SUMS = 32
#: Cycles from a sum's operands being read to the sum being read: a register before the adder, and the memory after it.
_ROUND = 1 + FloatAdd.latency + 1


class _State(enum.Enum, shape=2):
    ADD = 0
    FOLD = 1
    RESULT = 2


class Total(wiring.Component):
    """Adds up a segment, or the squares of its elements, as `tailrace.spec.floats.total` does.

    Adder ``e`` keeps the partial sums ``e``, ``e + width``, ... Each gets an element every ``32 / width`` words, and by then
    the sum with the element before is there. After the last word the same adders fold the 32 partial sums to one.

    Latency: `latency` cycles from the last word to the result, `FloatAdd.latency` + 2 more if it resumes. Throughput: one word
    a cycle.

    Parameters
    ----------
    width : int
        Elements in a word: 1, 2 or 4.

    Attributes
    ----------
    i : In(stream.Signature(reduction_word_layout(width)))
        Words; always ready. After the last word of a segment none must come until the result was taken.
    square : In(1)
        Add the elements' squares; with each word.
    resume : In(1)
        The result is ``add(start, total)``. From the cycle after the first word on, as `start`.
    start : In(32)
    o : Out(stream.Signature(32))
    """

    def __init__(self, width: int) -> None:
        check_width(width)
        self.width = width
        #: Sums in each level of the fold, in an adder; then adders that add another one's sum to theirs.
        self._within = [n for n in (16, 8, 4, 2, 1) if 2 * n <= PARTIAL_SUMS // width]
        self._across = [n for n in (2, 1) if n < width]
        steps = sum(self._within) + len(self._across) + sum(map(_wait, [*self._within, *(1 for _ in self._across)]))
        #: Cycles from the last word to the result.
        self.latency = FloatMultiply.latency + _ROUND + steps + 1
        super().__init__(
            {
                "i": In(stream.Signature(reduction_word_layout(width))),
                "square": In(1),
                "resume": In(1),
                "start": In(32),
                "o": Out(stream.Signature(32)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        columns = range(self.width)
        depth = PARTIAL_SUMS // self.width
        word = self.i.payload
        m.d.comb += self.i.ready.eq(1)

        # Operands for the adders, one cycle before these get them.
        begin = [Signal(name=f"begin_{n}") for n in columns]
        begun = [Signal(name=f"begun_{n}") for n in columns]
        augend = [Signal(32, name=f"augend_{n}") for n in columns]
        addend = [Signal(32, name=f"addend_{n}") for n in columns]
        sums: list[Value] = []
        others: list[Value] = []
        place, other, written = Signal(range(depth)), Signal(range(depth)), Signal(range(depth))
        used = [Signal(depth, name=f"used_{n}") for n in columns]
        for n in columns:
            m.submodules[f"adder_{n}"] = adder = FloatAdd()
            m.submodules[f"partial_{n}"] = memory = Memory(shape=32, depth=depth, init=[])
            write, here, there = memory.write_port(), memory.read_port(domain="comb"), memory.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(adder.o_valid),
                write.addr.eq(written),
                write.data.eq(adder.o),
                here.addr.eq(place),
                there.addr.eq(other),
            ]
            a, b = (Signal(32, reset_less=True, name=f"operand_{n}_{name}") for name in "ab")
            m.d.sync += begun[n].eq(begin[n])
            with m.If(begin[n]):
                m.d.sync += [a.eq(augend[n]), b.eq(addend[n])]
            m.d.comb += [adder.valid.eq(begun[n]), adder.a.eq(a), adder.b.eq(b)]
            # A partial sum that has got nothing yet is +0.
            sums.append(Mux(used[n].bit_select(place, 1), here.data, 0))
            others.append(Mux(used[n].bit_select(other, 1), there.data, 0))

        # Where the sums inside the adders go.
        address: Value = place
        for n in range(1 + FloatAdd.latency):
            step = Signal.like(place, name=f"address_{n}", reset_less=True)
            m.d.sync += step.eq(address)
            address = step
        m.d.comb += written.eq(address)

        terms = []
        for n in columns:
            m.submodules[f"term_{n}"] = term = FloatMultiply()
            m.d.comb += [
                term.valid.eq(self.i.valid & word.mask[n]),
                term.a.eq(word.data[n]),
                term.b.eq(Mux(self.square, word.data[n], C(float_bits(1.0), 32))),
            ]
            terms.append(term)
        arriving = Signal(FloatMultiply.latency)
        m.d.sync += arriving.eq(Cat(self.i.valid, arriving))

        state = Signal(_State)
        result = Signal(32, reset_less=True)
        ending = Signal()
        wait = Signal(range(_ROUND + FloatMultiply.latency + 1))
        # Elements of an adder so far, or sums of a level of the fold.
        count, partner = Signal(range(depth)), Signal(range(depth))
        levels = len(self._within) + len(self._across)
        level = Signal(range(levels + 2))
        m.d.comb += place.eq(count)
        # Of the sum that is added in the fold, in a register: it is `count` and the distance of the level.
        m.d.comb += other.eq(partner)
        for n in columns:
            m.d.comb += [augend[n].eq(sums[n]), addend[n].eq(terms[n].o)]
            with m.If(begin[n]):
                m.d.sync += used[n].eq(used[n] | C(1, depth) << place)

        with m.Switch(state):
            with m.Case(_State.ADD):
                m.d.comb += [begin[n].eq(terms[n].o_valid) for n in columns]
                with m.If(arriving[-1]):
                    m.d.sync += count.eq(count + 1)
                with m.If(self.i.valid & word.last):
                    m.d.sync += [ending.eq(1), wait.eq(_ROUND + FloatMultiply.latency - 2)]
                with m.If(ending):
                    m.d.sync += wait.eq(wait - 1)
                    with m.If(wait == 0):
                        m.d.sync += [ending.eq(0), state.eq(_State.FOLD), level.eq(0), count.eq(0), wait.eq(0)]
                        m.d.sync += partner.eq(self._within[0])
            with m.Case(_State.FOLD):
                with m.If(wait != 0):
                    m.d.sync += wait.eq(wait - 1)
                with m.Else(), m.Switch(level):
                    for n, distance in enumerate(self._within):
                        with m.Case(n):
                            for k in columns:
                                m.d.comb += [begin[k].eq(1), addend[k].eq(others[k])]
                            m.d.sync += [count.eq(count + 1), partner.eq(partner + 1)]
                            with m.If(count == distance - 1):
                                m.d.sync += [count.eq(0), level.eq(level + 1), wait.eq(_wait(distance))]
                                m.d.sync += partner.eq(distance // 2)
                    for n, distance in enumerate(self._across, start=len(self._within)):
                        with m.Case(n):
                            for k in range(distance):
                                m.d.comb += [begin[k].eq(1), addend[k].eq(sums[k + distance])]
                            m.d.sync += [level.eq(level + 1), wait.eq(_wait(1))]
                    with m.Case(levels):
                        with m.If(self.resume):
                            m.d.comb += [begin[0].eq(1), augend[0].eq(self.start), addend[0].eq(sums[0])]
                            m.d.sync += [level.eq(level + 1), wait.eq(_wait(1))]
                        with m.Else():
                            m.d.sync += [state.eq(_State.RESULT), result.eq(sums[0])]
                    with m.Default():
                        m.d.sync += [state.eq(_State.RESULT), result.eq(sums[0])]
            with m.Case(_State.RESULT):
                with m.If(self.o.ready):
                    m.d.sync += [state.eq(_State.ADD), *(u.eq(0) for u in used)]
        m.d.comb += [self.o.valid.eq(state == _State.RESULT), self.o.payload.eq(result)]
        return m


def _wait(sums: int) -> int:
    """Cycles after the last of so many sums until half as many can be formed of them: the sum in their middle must be there."""
    return max(_ROUND - max(sums // 2, 1), 0)
