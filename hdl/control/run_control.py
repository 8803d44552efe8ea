"""The life of a run: when it begins, what ends it, and that the bus is quiet before the next one."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode

from ..axi.signature import bus_error_layout
from .layout import error_layout


class RunControl(wiring.Component):
    """Start a run, let its program go on, and end it: at the program's end, at a command that fails, or at an error.

    A run goes: reset everything, wait for a quiet bus, check what the host has set, let the program run (`go`), end. What ends
    it:

    * The program has ended, or one of its commands has failed the check: when all operations before that have completed.
    * An error on the bus, or the watchdog: at once. The masters finish what the bus rules oblige them to, everything else is
      reset.

    It is over when the bus is quiet: reads that were asked for in vain, past a `LOOP` that was left, have come before `done`.
    If the bus never becomes quiet (the watchdog expires again), the run ends all the same, with `WATCHDOG` at the command that
    had failed, and the next one waits for the bus first.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    start : in
        1 for one cycle: begin.
    ready : in
        Registers are set: the program can begin.
    code : in
        An `ErrorCode`: why the run can't begin. It is looked at when `ready` is 1.
    empty : in
        There is no command.
    running : out
        1 from the cycle after `start` until the cycle of `done`.
    go : out
        1 while the program is at work; when it is 0, the program is to start from its beginning.
    ended : in
        The program has ended, or its command `command` has failed with `ended_code`. Stays 1 while `go` is 1.
    ended_code, command : in
        An `ErrorCode`, and the command that the program is at.
    drained : in
        1 when all operations passed on have completed and their writes were acknowledged.
    quiet : in
        1 when both masters are idle.
    flush : out
        1 while the masters must drop their work and everything between them is held in reset: from an abort, or the end of a
        run, until the next run has found the bus quiet. A register: it goes to everything.
    read_error, write_error : `bus_error_layout`, in
    expired, expired_command : in
        The watchdog has expired, while that command was executed.
    aborting : out
        1 for one cycle when an error has stopped the run: the watchdog starts again, to watch over the masters.
    drain : out
        All is done but for what the bus still owes: a fact of this cycle, for the counters.
    done, error : out
        `done` is 1 for one cycle at the end of a run; `error` says how it ended and stays valid.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(
            {
                "start": In(1),
                "ready": In(1),
                "code": In(8),
                "empty": In(1),
                "running": Out(1),
                "go": Out(1),
                "ended": In(1),
                "ended_code": In(8),
                "command": In(16),
                "drained": In(1),
                "quiet": In(1),
                "flush": Out(1, init=1),
                "read_error": In(bus_error_layout(config.address_width)),
                "write_error": In(bus_error_layout(config.address_width)),
                "expired": In(1),
                "expired_command": In(16),
                "aborting": Out(1),
                "drain": Out(1),
                "done": Out(1),
                "error": Out(error_layout(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        code, command, address = self.error.code, self.error.command, self.error.address
        # An error stays until it is answered with a flush. One that comes with the last write is not later than that is known.
        broken = Signal()
        m.d.sync += broken.eq(self.read_error.valid | self.write_error.valid | self.expired)

        # Of the cycle before. While `flush` is 1 a quiet bus stays so, and registers are set for many cycles.
        was_quiet = Signal()
        m.d.sync += was_quiet.eq(self.quiet)

        with m.FSM(init="IDLE") as fsm:
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [code.eq(ErrorCode.NONE), command.eq(0), address.eq(0), self.running.eq(1)]
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                # A memory that did not answer to the last run may still do so.
                with m.If(self.expired):
                    m.d.sync += code.eq(ErrorCode.WATCHDOG)
                    m.next = "END"
                with m.Elif(was_quiet & self.ready):
                    m.d.sync += code.eq(self.code)
                    with m.If((self.code != ErrorCode.NONE) | self.empty):
                        m.next = "END"
                    with m.Else():
                        m.d.sync += self.flush.eq(0)
                        m.next = "RUN"
            with m.State("RUN"):
                with m.If(broken):
                    m.d.comb += self.aborting.eq(1)
                    m.d.sync += [code.eq(ErrorCode.WATCHDOG), command.eq(self.expired_command), address.eq(0)]
                    for error, found in (
                        (self.write_error, ErrorCode.WRITE_ERROR),
                        (self.read_error, ErrorCode.READ_ERROR),
                    ):
                        with m.If(error.valid):
                            m.d.sync += [code.eq(found), command.eq(error.command), address.eq(error.address)]
                with m.Elif(self.ended):
                    m.d.sync += [code.eq(self.ended_code), command.eq(self.command)]
                    m.d.comb += self.drain.eq(self.ended_code == ErrorCode.NONE)
                with m.If(broken | (self.ended & self.drained)):
                    m.d.sync += self.flush.eq(1)
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                # Commands that were asked for in vain, past a loop, may still be on their way after the last one is done.
                complete = code == ErrorCode.NONE
                m.d.comb += self.drain.eq(complete)
                with m.If(self.quiet):
                    with m.If(complete):
                        m.d.sync += command.eq(0)
                    m.next = "END"
                with m.Elif(self.expired):
                    # The command stays the one that failed first, or the last one: the units, in reset, know none any more.
                    m.d.sync += [code.eq(ErrorCode.WATCHDOG), address.eq(0)]
                    m.next = "END"
            with m.State("END"):
                # The masters must see no gap in `flush` as long as the bus is not quiet.
                m.d.comb += self.done.eq(1)
                m.d.sync += self.running.eq(0)
                m.next = "IDLE"
        m.d.comb += self.go.eq(fsm.ongoing("RUN") & ~broken)
        return m
