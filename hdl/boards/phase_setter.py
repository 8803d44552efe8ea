"""Sets how a DDR3's reads are aligned."""

from typing import Any

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from .litedram import ReadPhases
from .sdram_start import CONTROL_PORT


class _Action(enum.Enum, shape=2):
    RESET_DELAY = 0
    NEXT_DELAY = 1
    RESET_SLIP = 2
    NEXT_SLIP = 3


class PhaseSetter(wiring.Component):
    """Give some byte lanes a slip and a delay, by writes to LiteDRAM's registers.

    The registers count up from a reset. Before each step the lanes are selected, which holds their strobe's logic still, and
    after it all lanes are, for a moment, so that they go on together. LiteX's software does the same.

    Parameters
    ----------
    phases : ReadPhases

    Attributes
    ----------
    start : in
        Looked at while `done`.
    lanes, slip, delay : in
        A bit for each lane that is meant, and what it gets; steady from `start` on until `done`.
    done : out
        Nothing is left to do. It is not, in the cycle after `start`.
    address, data, request, acknowledge
        `tailrace.hdl.boards.sdram_start.CONTROL_PORT`.
    """

    def __init__(self, phases: ReadPhases) -> None:
        self._phases = phases
        super().__init__(
            {
                "start": In(1),
                "lanes": In(phases.lanes),
                "slip": In(range(phases.slips)),
                "delay": In(range(phases.delays)),
                "done": Out(1),
                **CONTROL_PORT,
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        phases = self._phases
        everything = (1 << phases.lanes) - 1
        registers = [phases.reset_delay, phases.next_delay, phases.reset_slip, phases.next_slip]
        action = Signal(_Action)
        register = Array(address // 4 for address in registers)[action.as_value()]
        writes = (
            (phases.select // 4, self.lanes),
            (register, 1),
            *((phases.select // 4, lanes) for lanes in (0, everything, 0)),
        )
        index, count = Signal(range(len(writes))), Signal(range(max(phases.slips, phases.delays)))
        with m.Switch(index):
            for number, (address, value) in enumerate(writes):
                with m.Case(number):
                    m.d.comb += [self.address.eq(address), self.data.eq(value)]
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.done.eq(1)
                with m.If(self.start):
                    m.d.sync += [action.eq(_Action.RESET_DELAY), index.eq(0), count.eq(0)]
                    m.next = "write"
            with m.State("write"):
                m.d.comb += self.request.eq(1)
                with m.If(self.acknowledge):
                    m.d.sync += index.eq(index + 1)
                    m.next = "pause"
                    with m.If(index == len(writes) - 1):
                        m.d.sync += index.eq(0)
                        m.next = "next"
            with m.State("pause"):
                m.next = "write"
            with m.State("next"):
                m.next = "write"
                m.d.sync += count.eq(count + 1)
                with m.If(~action.as_value()[1] & (count != self.delay)):
                    m.d.sync += action.eq(_Action.NEXT_DELAY)
                with m.Elif(~action.as_value()[1]):
                    m.d.sync += [action.eq(_Action.RESET_SLIP), count.eq(0)]
                with m.Elif(count != self.slip):
                    m.d.sync += action.eq(_Action.NEXT_SLIP)
                with m.Else():
                    m.next = "idle"
        return m
