"""What the elementwise unit reads, and when: the addresses of scalars and words, segment after segment."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES, MAX_SEGMENTS, Opcode, Reduce

from ..control.layout import OPCODE_BITS, command_layout
from ..slots.memory import slot_shape
from .activation_buffer import buffer_words


class Scalars(enum.Enum, shape=2):
    """Which scalars are read: two at a time, one through each port."""

    NONE = 0
    P_Q = 1
    M_N = 2
    START = 3


def fetch_layout(config: Config) -> data.StructLayout:
    """What the words that a step reads are for.

    `a_element` and `b_element` say which floats of the words are the `scalars`. A step with `word` gives a word of results.
    `ROTATE` alternates steps that read a pair of words and steps that read the `table`.
    """
    element = range(max(config.word_elements, 2))
    return data.StructLayout({"scalars": Scalars, "a_element": element, "b_element": element, "table": 1, "word": 1})


def place_layout(config: Config) -> data.StructLayout:
    """Where a word of results belongs.

    `address` in the buffer, `mask` of the elements that there are; `first` and `last` in its segment; `vector_first`: first
    of a vector in `slot`; `final`: last of the command.
    """
    return data.StructLayout(
        {
            "address": range(buffer_words(config)),
            "mask": config.word_elements,
            "first": 1,
            "last": 1,
            "vector_first": 1,
            "final": 1,
            "slot": slot_shape(config),
        }
    )


class _State(enum.Enum, shape=3):
    IDLE = 0
    P_Q = 1
    M_N = 2
    START = 3
    WORDS = 4
    DRAIN = 5
    DONE = 6


class ElementwiseSequencer(wiring.Component):
    """Walk through the segments of an `ELEMENTWISE` or `ROTATE` command.

    A *step* is a cycle in which the unit advances and something is read: first the segment's scalars that lie in the buffer,
    then its words. A segment takes ``ceil(count / word_elements)`` steps (`ROTATE`: two for each word of pairs, and one), one
    more if p or q has to be read, one if m or n has to be, and one if a reduction resumes. The next segment follows without a
    gap, unless the reduction resumes or removes: then it waits until everything has been written.

    What the ports read, and what for, is in registers: a step shows there 1 enabled cycle after it is taken.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(512)
        Stays until `done`.
    valid : In(1)
    start : Out(1)
        First cycle of a command: its settings are to be taken over.
    advance : In(1)
        Nothing behind holds the unit up.
    streamed, stream_valid : In(1)
        The command has a streamed operand; a word of it is there.
    stream_ready, stream_last : Out(1)
        That word is taken, if it is there; it is the last one of its segment.
    result_step : Out(1)
        The last step of a segment is taken in this cycle.
    stepping : Out(1)
        A step is taken in this cycle, or is in the registers.
    drained : In(1)
        Nothing is in the pipeline, and all results have been written; 0 in the cycle after one with `stepping`.
    slots_idle : In(1)
        All words for the vector slots have reached them.
    result_entry : In(range(buffer_entries))
        Where the next result of a reduction goes.
    read : Out(1)
        The ports read in this cycle, if `advance` is 1.
    a_address, b_address : Out(range(buffer_words))
    fetch : Out(fetch_layout(config))
        What this step reads. All zero: no step.
    place : Out(place_layout(config))
        Of the word of results that belongs to the step.
    done : Out(1)
        Last cycle of a command.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(8 * COMMAND_BYTES),
                "valid": In(1),
                "start": Out(1),
                "advance": In(1),
                "streamed": In(1),
                "stream_valid": In(1),
                "stream_ready": Out(1),
                "stream_last": Out(1),
                "result_step": Out(1),
                "stepping": Out(1),
                "drained": In(1),
                "slots_idle": In(1),
                "result_entry": In(range(config.buffer_entries)),
                "read": Out(1),
                "a_address": Out(range(buffer_words(config))),
                "b_address": Out(range(buffer_words(config))),
                "fetch": Out(fetch_layout(config)),
                "place": Out(place_layout(config)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        element_bits = config.word_elements.bit_length() - 1
        entry_bits = config.buffer_entries.bit_length() - 1
        word_bits = entry_bits - element_bits
        elementwise = command_layout(Opcode.ELEMENTWISE)(self.command)
        rotate_fields = command_layout(Opcode.ROTATE)(self.command)

        rotate = Signal()
        drain_segments = Signal()
        # Bit 0, 1, 2: p or q, m or n, the start of the reduction are to be read; for this segment, and for later ones.
        needs, later_needs = Signal(3), Signal(3)
        last_index = Signal(word_bits)
        last_mask = Signal(config.word_elements)
        last_segment = Signal(range(MAX_SEGMENTS + 1))
        segment = Signal.like(last_segment)
        # Words of the buffer; `d_upper` is one word before the second half of a rotated vector.
        a, b, d, d_upper, table, sines = (Signal(word_bits, name=n) for n in ("a", "b", "d", "d_upper", "table", "sines"))
        index = Signal(word_bits)
        # Words of the segment behind this one, and whether there are none: a register, because much depends on it.
        left, at_last = Signal(word_bits), Signal()
        slot = Signal(slot_shape(config))
        state = Signal(_State)
        # The state is WORDS, in a register of its own, as much depends on it.
        on_words = Signal()

        def words(entries: Value) -> Value:
            return entries[element_bits:entry_bits]

        # What the two commands do not share is zero in the other one: `ROTATE` loads no scalars, and reduces nothing.
        load, advance_entry = elementwise.load, elementwise.advance
        moving = load & advance_entry
        resume = elementwise.resume & (elementwise.reduce != Reduce.NONE)
        first_needs = Cat(load[:2].any(), load[2:].any(), resume)
        with m.If(self.start):
            last_entry = elementwise.count - 1
            m.d.sync += [
                rotate.eq(self.command[:OPCODE_BITS] == Opcode.ROTATE),
                needs.eq(first_needs),
                later_needs.eq(Cat(moving[:2].any(), moving[2:].any(), resume)),
                drain_segments.eq(resume | (elementwise.reduce == Reduce.ARGMAX_REMOVE)),
                last_index.eq(words(last_entry)),
                last_mask.eq((2 << last_entry[:element_bits]) - 1 if element_bits else 1),
                last_segment.eq(elementwise.segments - 1),
                segment.eq(0),
                index.eq(0),
                left.eq(words(last_entry)),
                at_last.eq(words(last_entry) == 0),
                a.eq(words(elementwise.a)),
                slot.eq(elementwise.slot),
            ]
            with m.If(self.command[:OPCODE_BITS] == Opcode.ROTATE):
                half = words(rotate_fields.count)
                m.d.sync += [
                    b.eq(words(rotate_fields.a) + half),
                    d.eq(words(rotate_fields.d)),
                    d_upper.eq(words(rotate_fields.d) + half - 1),
                    table.eq(words(rotate_fields.table)),
                    sines.eq(words(rotate_fields.table) + half),
                ]
            with m.Else():
                m.d.sync += [b.eq(words(elementwise.b)), d.eq(words(elementwise.d))]

        # `ROTATE`: the step reads the table; a word of results of the pair before is still to come; it is the segment's last.
        second, pending, tail = Signal(), Signal(), Signal()
        with m.If(self.start):
            m.d.sync += [second.eq(0), pending.eq(0), tail.eq(0)]
        step = Signal()
        segment_end = Signal()
        m.d.comb += [
            step.eq(self.advance & on_words & (~self.streamed | self.stream_valid)),
            segment_end.eq(step & Mux(rotate, tail, at_last)),
        ]
        with m.If(step):
            with m.If(rotate):
                m.d.sync += [second.eq(~second & ~tail), pending.eq(second), tail.eq(second & at_last)]
            with m.If(~rotate | second):
                m.d.sync += [index.eq(index + 1), left.eq(left - 1), at_last.eq(left == 1)]
        with m.If(segment_end):
            m.d.sync += [
                index.eq(0),
                left.eq(last_index),
                at_last.eq(last_index == 0),
                segment.eq(segment + 1),
                a.eq(a + words(elementwise.a_stride)),
                b.eq(b + Mux(rotate, words(rotate_fields.a_stride), words(elementwise.b_stride))),
                d.eq(d + Mux(rotate, words(rotate_fields.d_stride), words(elementwise.d_stride))),
                d_upper.eq(d_upper + words(rotate_fields.d_stride)),
                needs.eq(later_needs),
            ]
            if config.right_hand_sides > 1:
                with m.If(elementwise.next_slot):
                    m.d.sync += slot.eq(slot + 1)
        finished = Signal()
        with m.If(segment_end):
            m.d.sync += finished.eq(segment == last_segment)

        def follow(needs: Value) -> None:
            """Go on with the first of the segment's scalars that are needed, or its words."""
            with m.If(needs[0]):
                m.d.sync += [state.eq(_State.P_Q), on_words.eq(0)]
            with m.Elif(needs[1]):
                m.d.sync += [state.eq(_State.M_N), on_words.eq(0)]
            with m.Elif(needs[2]):
                m.d.sync += [state.eq(_State.START), on_words.eq(0)]
            with m.Else():
                m.d.sync += [state.eq(_State.WORDS), on_words.eq(1)]

        with m.Switch(state):
            with m.Case(_State.IDLE):
                m.d.comb += self.start.eq(self.valid)
                with m.If(self.valid):
                    follow(first_needs)
            with m.Case(_State.P_Q):
                with m.If(self.advance):
                    follow(needs & 0b110)
            with m.Case(_State.M_N):
                with m.If(self.advance):
                    follow(needs & 0b100)
            with m.Case(_State.START):
                with m.If(self.advance):
                    m.d.sync += [state.eq(_State.WORDS), on_words.eq(1)]
            with m.Case(_State.WORDS):
                with m.If(segment_end):
                    with m.If(drain_segments | (segment == last_segment)):
                        m.d.sync += [state.eq(_State.DRAIN), on_words.eq(0)]
                    with m.Else():
                        follow(later_needs)
            with m.Case(_State.DRAIN):
                with m.If(self.drained):
                    with m.If(~finished):
                        follow(needs)
                    with m.Elif(self.slots_idle):
                        m.d.sync += [state.eq(_State.DONE), on_words.eq(0)]
            with m.Case(_State.DONE):
                m.d.comb += self.done.eq(1)
                m.d.sync += [state.eq(_State.IDLE), on_words.eq(0)]

        a_entry, b_entry = Signal(entry_bits), Signal(entry_bits)
        a_offset, b_offset = Signal(entry_bits), Signal(entry_bits)
        zeros = Const(0, element_bits)
        with m.Switch(state):
            for case, names, first in ((_State.P_Q, ("p", "q"), 0), (_State.M_N, ("m", "n"), 2)):
                with m.Case(case):
                    m.d.comb += [
                        a_entry.eq(elementwise[names[0]]),
                        b_entry.eq(elementwise[names[1]]),
                        a_offset.eq(Mux(advance_entry[first], segment, 0)),
                        b_offset.eq(Mux(advance_entry[first + 1], segment, 0)),
                    ]
            with m.Case(_State.START):
                m.d.comb += [a_entry.eq(self.result_entry), b_entry.eq(self.result_entry), b_offset.eq(1)]
            with m.Default():
                m.d.comb += [
                    a_entry.eq(Cat(zeros, Mux(second, table, a))),
                    b_entry.eq(Cat(zeros, Mux(second, sines, b))),
                    a_offset.eq(Cat(zeros, index)),
                    b_offset.eq(Cat(zeros, index)),
                ]
        a_sum, b_sum = Signal(entry_bits), Signal(entry_bits)
        reads_scalars = (state == _State.P_Q) | (state == _State.M_N) | (state == _State.START)
        fetch, place = Signal(fetch_layout(config)), Signal(place_layout(config))
        m.d.comb += [
            a_sum.eq(a_entry + a_offset),
            b_sum.eq(b_entry + b_offset),
            fetch.a_element.eq(a_sum[:element_bits]),
            fetch.b_element.eq(b_sum[:element_bits]),
            fetch.table.eq(second),
            fetch.word.eq(step & (~rotate | second | pending)),
            self.stream_ready.eq(self.advance & on_words & self.streamed),
            self.stream_last.eq(at_last),
            self.result_step.eq(segment_end),
            self.stepping.eq(step | self.fetch.word),
        ]
        with m.Switch(state):
            for case, scalars in ((_State.P_Q, Scalars.P_Q), (_State.M_N, Scalars.M_N), (_State.START, Scalars.START)):
                with m.Case(case):
                    m.d.comb += fetch.scalars.eq(scalars)
        with m.If(self.advance):
            m.d.sync += [
                self.read.eq(step | reads_scalars),
                self.a_address.eq(a_sum[element_bits:]),
                self.b_address.eq(b_sum[element_bits:]),
                self.fetch.eq(fetch),
                self.place.eq(place),
            ]
        m.d.comb += [
            place.address.eq(Mux(rotate & ~second, d_upper, d) + index),
            place.mask.eq(Mux(at_last, last_mask, (1 << config.word_elements) - 1)),
            place.first.eq(index == 0),
            place.last.eq(segment_end),
            place.vector_first.eq((index == 0) & ((segment == 0) | elementwise.next_slot)),
            place.final.eq(segment_end & (segment == last_segment)),
            place.slot.eq(slot),
        ]
        return m
