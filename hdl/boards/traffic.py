"""Traffic that finds out whether a memory keeps what is written to it."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..axi.signature import AxiRead, AxiWrite

#: Beats of a burst: those of the co-processor's long reads.
BURST = 64
#: Bits of the number of bursts.
COUNT_BITS = 16
#: The random numbers: a linear-feedback shift register with taps where a maximal one of 128 bits has them (Xilinx XAPP 052),
#: which goes on by `_STEP` bits with each beat.
_TAPS, _STEP = (0, 2, 27, 29), 96


class Traffic(wiring.Component):
    """Write random beats from address 0 on, read them back, and say which byte lanes came back wrong.

    Bursts follow each other without a pause, as the co-processor's do, first all writes and then all reads, so that a memory
    sees pages, banks and refreshes. Each run has other numbers than all before it: what an earlier run left is wrong.

    Parameters
    ----------
    address_width : int
    data_width : int
        Bits of a beat: 128, as the random numbers.
    lanes : int
        Bytes that the memory transfers together. Byte i of a beat is lane i modulo this.

    Attributes
    ----------
    start : in
        Begins a run. Looked at while `done`.
    bursts : in
        How many, at least 1; steady from `start` on until `done`.
    done : out
        No run is going on. It is not, in the cycle after `start`.
    wrong : out
        A bit for each lane in which something came back wrong in the last run; valid while `done`.
    read : AxiRead(address_width, data_width), out
    write : AxiWrite(address_width, data_width), out

    Raises
    ------
    ValueError
        If a beat has not 128 bits.
    """

    def __init__(self, address_width: int, data_width: int, lanes: int) -> None:
        if data_width != 128:
            raise ValueError(f"a beat must have 128 bits, not {data_width}")
        self._lanes = lanes
        super().__init__(
            {
                "start": In(1),
                "bursts": In(COUNT_BITS),
                "done": Out(1),
                "wrong": Out(lanes),
                "read": Out(AxiRead(address_width, data_width)),
                "write": Out(AxiWrite(address_width, data_width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        read, write = self.read, self.write
        width = len(write.w.p.data)
        number, origin = Signal(width, init=1), Signal(width)
        following = Cat(number[_STEP:], *(_parity(number, place) for place in range(_STEP)))
        asked, answered = Signal(COUNT_BITS), Signal(COUNT_BITS)
        beat = Signal(COUNT_BITS + exact_log2(BURST))
        end = self.bursts << exact_log2(BURST)
        address = asked * BURST * (width // 8)
        m.d.comb += [
            write.aw.p.address.eq(address),
            write.aw.p.length.eq(BURST - 1),
            write.w.p.data.eq(number),
            write.w.p.strobe.eq(~0),
            write.w.p.last.eq(beat[: exact_log2(BURST)].all()),
            write.b.ready.eq(1),
            read.ar.p.address.eq(address),
            read.ar.p.length.eq(BURST - 1),
            read.r.ready.eq(1),
        ]
        # A cycle later, or it would be a long way for a signal from the memory.
        different, looked = Signal(width), Signal()
        m.d.sync += [different.eq(read.r.p.data ^ number), looked.eq(read.r.valid)]
        with m.If(looked):
            for lane in range(self._lanes):
                of_lane = Cat(different.word_select(byte, 8) for byte in range(lane, width // 8, self._lanes))
                m.d.sync += self.wrong[lane].eq(self.wrong[lane] | of_lane.any())

        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.done.eq(1)
                with m.If(self.start):
                    m.d.sync += [self.wrong.eq(0), origin.eq(number), asked.eq(0), answered.eq(0), beat.eq(0)]
                    m.next = "write"
            with m.State("write"):
                m.d.comb += [write.aw.valid.eq(asked != self.bursts), write.w.valid.eq(beat != end)]
                with m.If(write.aw.valid & write.aw.ready):
                    m.d.sync += asked.eq(asked + 1)
                with m.If(write.w.valid & write.w.ready):
                    m.d.sync += [beat.eq(beat + 1), number.eq(following)]
                with m.If(write.b.valid):
                    m.d.sync += answered.eq(answered + 1)
                with m.If(answered == self.bursts):
                    m.d.sync += [number.eq(origin), asked.eq(0), beat.eq(0)]
                    m.next = "read"
            with m.State("read"):
                m.d.comb += read.ar.valid.eq(asked != self.bursts)
                with m.If(read.ar.ready & read.ar.valid):
                    m.d.sync += asked.eq(asked + 1)
                with m.If(read.r.valid):
                    m.d.sync += [beat.eq(beat + 1), number.eq(following)]
                with m.If(beat == end):
                    m.next = "look"
            with m.State("look"):
                m.next = "idle"
        return m


def _parity(number: Signal, place: int) -> Any:
    first, *others = (number[place + tap] for tap in _TAPS)
    for other in others:
        first = first ^ other
    return first
