"""The performance counters."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.registers import COUNTERS

from ..axi.signature import ReadKind
from .probe import CycleUse

#: Bits of a word of the counters. A counter has two, the lower one first.
WORD_BITS = 32
#: Words of all counters.
WORDS = 2 * len(COUNTERS)
_BEATS = {
    "COMMAND_BEATS": (ReadKind.COMMAND, CycleUse.COMMAND_BEAT),
    "VECTOR_BEATS": (ReadKind.VECTOR, CycleUse.VECTOR_BEAT),
    "WEIGHT_BEATS": (ReadKind.WEIGHT, CycleUse.WEIGHT_BEAT),
}
_STALLS = {
    "STALL_MEMORY": CycleUse.MEMORY,
    "STALL_BUFFER": CycleUse.BUFFER,
    "STALL_FENCE": CycleUse.FENCE,
    "STALL_DRAIN": CycleUse.DRAIN,
    "STALL_COMMAND": CycleUse.COMMAND,
}


_FACTS = data.StructLayout(
    {
        "beat": 1,
        "beat_kind": ReadKind,
        **dict.fromkeys(("waiting", "blocked", "fence", "drain", "command", "write_beat", "matrix_busy", "vector_busy"), 1),
    }
)


class CounterRead(wiring.Signature):
    """A word of the counters, seen from the reader.

    Attributes
    ----------
    valid, place : out
        Word `place` is wanted. Both stay until it is there.
    found, value : in
        In a cycle in which `found` is 1, `value` is the word.
    """

    def __init__(self) -> None:
        super().__init__({"valid": Out(1), "place": Out(range(WORDS)), "found": In(1), "value": In(WORD_BITS)})


class Counters(wiring.Component):
    """Count what each cycle of a run was used for.

    While `running` is 1, each cycle adds one to ``CYCLES`` and to exactly one of the beats and stalls: a read beat by
    its kind, else the first of memory, buffer, fence and drain whose input is 1, else command.

    The counters lie in a small memory, and one adder goes round: in each cycle it takes up a word of a counter. What has
    happened since it was there last is in a short count of its own for each counter, as many bits as a round's cycles need; it
    is chosen a cycle before.
    Registers and adders of 64 bits would take more of an FPGA than many a unit, for numbers that are read once in a run.

    A word is read as it goes by, with all that was counted up to then: within a round after it is asked for. It has all cycles
    up to the fifth before the one in which it is found, so that of a run that is over a host reads all. The halves of a
    counter go by one after the other.

    Attributes
    ----------
    clear : in
        Set all counters to zero.
    running, beat, beat_kind, waiting, blocked, fence, drain, command, write_beat, matrix_busy, vector_busy : in
        Facts of this cycle.
    use : out
        What this cycle is counted as.
    read : CounterRead, in
        Words in the order of `spec.registers.COUNTERS`.
    """

    #: Cycles of a round.
    period = WORDS

    clear: In(1)
    running: In(1)
    beat: In(1)
    beat_kind: In(ReadKind)
    waiting: In(1)
    blocked: In(1)
    fence: In(1)
    drain: In(1)
    command: In(1)
    write_beat: In(1)
    matrix_busy: In(1)
    vector_busy: In(1)
    use: Out(CycleUse)
    read: In(CounterRead())

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(shape=unsigned(WORD_BITS), depth=WORDS, init=[])

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        _tell_use(m, self.use, self)
        # They come late in their cycle, so they are counted in the next one.
        before, use, counts = Signal(_FACTS), Signal(CycleUse), Signal()
        m.d.sync += [*(before[name].eq(getattr(self, name)) for name in _FACTS.members), counts.eq(self.running & ~self.clear)]
        _tell_use(m, use, before)
        count = {
            "CYCLES": Const(1),
            **{name: use == of for name, (_, of) in _BEATS.items()},
            **{name: use == of for name, of in _STALLS.items()},
            "COMMANDS": before.command,
            "WRITE_BEATS": before.write_beat,
            "MATRIX_BUSY": before.matrix_busy,
            "VECTOR_BUSY": before.vector_busy,
        }

        # The word that the adder comes to. In the first round, after a reset too, words count as zero.
        place, first_round = Signal(range(WORDS)), Signal(init=1)
        with m.If(self.clear):
            m.d.sync += [place.eq(0), first_round.eq(1)]
        with m.Elif(place == WORDS - 1):
            m.d.sync += [place.eq(0), first_round.eq(0)]
        with m.Else():
            m.d.sync += place.eq(place + 1)

        # What has been counted in this round. Then what the adder takes up, where, and whether for the first time.
        recent = [Signal(range(WORDS + 1), name=f"recent_{name.lower()}") for name, _ in COUNTERS]
        taken, at, first = Signal.like(recent[0]), Signal.like(place), Signal(init=1)
        m.d.sync += [at.eq(place), first.eq(first_round)]
        with m.Switch(place[1:]):
            for i, number in enumerate(recent):
                with m.Case(i):
                    m.d.sync += taken.eq(number)
        for i, (name, _) in enumerate(COUNTERS):
            step = Signal(name=f"step_{name.lower()}")
            m.d.sync += step.eq(count[name] & counts & ~self.clear)
            with m.If(self.clear):
                m.d.sync += recent[i].eq(0)
            with m.Elif(place == 2 * i):
                m.d.sync += recent[i].eq(step)
            with m.Elif(step):
                m.d.sync += recent[i].eq(recent[i] + 1)

        m.submodules.memory = memory = self.memory
        words, write = memory.read_port(domain="comb"), memory.write_port()
        total, written = Signal(WORD_BITS + 1, reset_less=True), Signal.like(at)
        carry = total[WORD_BITS]
        m.d.comb += [
            words.addr.eq(at),
            write.addr.eq(written),
            write.data.eq(total),
            write.en.eq(1),
            self.read.value.eq(total),
        ]
        m.d.sync += [
            total.eq(Mux(first, 0, words.data) + Mux(at[0], carry, taken)),
            written.eq(at),
            self.read.found.eq(self.read.valid & (self.read.place == at)),
        ]
        return m


def _tell_use(m: Module, use: Any, facts: Any) -> None:
    """What a cycle with these facts is counted as."""
    with m.If(facts.beat):
        with m.Switch(facts.beat_kind):
            for kind, of in _BEATS.values():
                with m.Case(kind):
                    m.d.comb += use.eq(of)
    with m.Elif(facts.waiting):
        m.d.comb += use.eq(CycleUse.MEMORY)
    with m.Elif(facts.blocked):
        m.d.comb += use.eq(CycleUse.BUFFER)
    with m.Elif(facts.fence):
        m.d.comb += use.eq(CycleUse.FENCE)
    with m.Elif(facts.drain):
        m.d.comb += use.eq(CycleUse.DRAIN)
    with m.Else():
        m.d.comb += use.eq(CycleUse.COMMAND)
