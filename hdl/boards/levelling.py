"""Aligns a DDR3's reads."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi.signature import AxiRead, AxiWrite
from .litedram import ReadPhases
from .phase_setter import PhaseSetter
from .sdram_start import CONTROL_PORT
from .traffic import Traffic

#: Bursts of `Traffic` at each setting, and at those that were chosen: 64 KiB and 1 MiB.
TRIAL_BURSTS, LAST_BURSTS = 64, 1024


class Levelling(wiring.Component):
    """Try every slip and delay with traffic, choose the middle of the longest row of delays that were right, and try that.

    All byte lanes are tried at the same time, and each is judged by its own bytes. Of rows that are as long, the first one is
    chosen, and of two middles the lower one. A lane fails if it was never right, or is wrong in the last, longer run. The
    memory's first part is overwritten.

    Parameters
    ----------
    phases : ReadPhases
    address_width, data_width : int
        Of the memory's port.
    trial_bursts, last_bursts : int

    Attributes
    ----------
    enable : in
        The memory's port is open.
    done : out
        All lanes are aligned.
    failed : out
        A bit for each lane that can't be; nothing more is done then.
    slips, delays : out
        What each lane has been given.
    address, data, request, acknowledge
        `tailrace.hdl.boards.sdram_start.CONTROL_PORT`.
    read : AxiRead(address_width, data_width), out
    write : AxiWrite(address_width, data_width), out
    """

    def __init__(
        self,
        phases: ReadPhases,
        address_width: int,
        data_width: int,
        *,
        trial_bursts: int = TRIAL_BURSTS,
        last_bursts: int = LAST_BURSTS,
    ) -> None:
        self._phases, self._trial_bursts, self._last_bursts = phases, trial_bursts, last_bursts
        self._traffic = Traffic(address_width, data_width, phases.lanes)
        super().__init__(
            {
                "enable": In(1),
                "done": Out(1),
                "failed": Out(phases.lanes),
                "slips": Out(data.ArrayLayout(range(phases.slips), phases.lanes)),
                "delays": Out(data.ArrayLayout(range(phases.delays), phases.lanes)),
                **CONTROL_PORT,
                "read": Out(AxiRead(address_width, data_width)),
                "write": Out(AxiWrite(address_width, data_width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        phases = self._phases
        m.submodules.traffic = traffic = self._traffic
        m.submodules.setter = setter = PhaseSetter(phases)
        connect(m, traffic.read, flipped(self.read))
        connect(m, traffic.write, flipped(self.write))
        slip, delay = Signal(range(phases.slips)), Signal(range(phases.delays))
        chosen, lane = Signal(), Signal(range(phases.lanes))
        last_delay, last_slip = delay == phases.delays - 1, slip == phases.slips - 1
        m.d.comb += [
            self.address.eq(setter.address),
            self.data.eq(setter.data),
            self.request.eq(setter.request),
            setter.acknowledge.eq(self.acknowledge),
            setter.lanes.eq(Mux(chosen, 1 << lane, ~0)),
            setter.slip.eq(Mux(chosen, self.slips[lane], slip)),
            setter.delay.eq(Mux(chosen, self.delays[lane], delay)),
            traffic.bursts.eq(Mux(chosen, self._last_bursts, self._trial_bursts)),
        ]
        lengths = [Signal(range(phases.delays + 1), name=f"length_{number}") for number in range(phases.lanes)]
        never = Cat(length == 0 for length in lengths)

        with m.FSM():
            with m.State("idle"):
                with m.If(self.enable):
                    m.next = "set"
            with m.State("set"):
                m.d.comb += setter.start.eq(1)
                m.next = "setting"
            with m.State("setting"):
                with m.If(setter.done):
                    m.d.sync += lane.eq(lane + 1)
                    m.next = "set"
                    with m.If(~chosen | (lane == phases.lanes - 1)):
                        m.d.comb += traffic.start.eq(1)
                        m.d.sync += lane.eq(0)
                        m.next = "try"
            with m.State("try"):
                with m.If(traffic.done & chosen):
                    m.d.sync += self.failed.eq(never | traffic.wrong)
                    m.next = "judge"
                with m.Elif(traffic.done):
                    for number, length in enumerate(lengths):
                        row = Signal(range(phases.delays + 1), name=f"row_{number}")
                        longer = Signal.like(row, name=f"longer_{number}")
                        m.d.comb += longer.eq(row + 1)
                        m.d.sync += row.eq(0)
                        with m.If(~traffic.wrong[number]):
                            with m.If(~last_delay):
                                m.d.sync += row.eq(longer)
                            with m.If(longer > length):
                                m.d.sync += [
                                    length.eq(longer),
                                    self.slips[number].eq(slip),
                                    self.delays[number].eq(delay - (longer >> 1)),
                                ]
                    m.d.sync += delay.eq(delay + 1)
                    m.next = "set"
                    with m.If(last_delay):
                        m.d.sync += [delay.eq(0), slip.eq(slip + 1)]
                        with m.If(last_slip):
                            m.d.sync += chosen.eq(1)
            with m.State("judge"):
                m.d.comb += self.done.eq(self.failed == 0)
        return m
