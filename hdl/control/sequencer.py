"""Runs a queue: checks each command, asks for what it reads, and passes it on."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import MAX_COMMANDS, Opcode
from tailrace.spec.vector import ALIGNMENT

from ..axi.signature import ReadKind, read_request_layout
from .checker import CommandChecker
from .command_fetch import fetched_layout
from .layout import command_layout, error_layout, operation_layout


class Sequencer(wiring.Component):
    """The fetch side of the device: it runs ahead of the executor, as far as the queues between them reach.

    A run goes: reset everything, check the queue, then for each command check, request the reads, hand to the executor; at
    the end wait until all is done. A command that fails its check stops the run after all commands before it have
    completed. An error on the bus, or the watchdog, stops it at once: the masters finish what the bus rules oblige
    them to, everything else is reset, and the run ends when the bus is quiet. If it never becomes quiet (the watchdog expires
    again), the run ends all the same, with `WATCHDOG` at the command that had failed, and the next one waits for the bus first.

    A command takes `CommandChecker.LATENCY` + 3 cycles here.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    start : in
        1 for one cycle: run the queue given by `address` and `length`.
    running : out
        1 from the cycle after `start` until the cycle of `done`.
    done, error : out
        `done` is 1 for one cycle at the end of a run; `error` says how it ended and stays valid.
    fetch_start : out
        1 for one cycle: start fetching commands.
    i : stream of fetched commands, in
    request : stream of read requests, out
    o : stream of operations, out
    drained : in
        1 when all operations passed on have completed and their writes were acknowledged.
    quiet : in
        1 when both masters are idle.
    flush : out
        1 while the masters must drop their work and everything between them is held in reset: from an abort, or the end of a
        run, until the next run has found the bus quiet.
    read_error, read_error_address, read_error_command, write_error, ... : in
    expired, expired_command : in
        The watchdog has expired, while that command was executed.
    aborting : out
        1 for one cycle when an error has stopped the run: the watchdog starts again, to watch over the masters.
    fence, drain, command : out
        Facts of this cycle, for the counters.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "address": In(64),
                "length": In(32),
                "running": Out(1),
                "done": Out(1),
                "error": Out(error_layout(config)),
                "fetch_start": Out(1),
                "i": In(stream.Signature(fetched_layout())),
                "request": Out(stream.Signature(read_request_layout(config.address_width))),
                "o": Out(stream.Signature(operation_layout(config))),
                "drained": In(1),
                "quiet": In(1),
                "flush": Out(1),
                "read_error": In(1),
                "read_error_address": In(config.address_width),
                "read_error_command": In(16),
                "write_error": In(1),
                "write_error_address": In(config.address_width),
                "write_error_command": In(16),
                "expired": In(1),
                "expired_command": In(16),
                "aborting": Out(1),
                "fence": Out(1),
                "drain": Out(1),
                "command": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        command, index = self.i.payload.command, self.i.payload.index
        m.submodules.checker = checker = CommandChecker(config)
        m.d.comb += checker.command.eq(command)
        opcode = command_layout(Opcode.FENCE)(command).opcode
        load, gemv = command_layout(Opcode.LOAD_VECTOR)(command), command_layout(Opcode.GEMV)(command)
        quantise = command_layout(Opcode.QUANTISE)(command)
        reads = (opcode == Opcode.LOAD_VECTOR) | (opcode == Opcode.GEMV)

        m.d.comb += [
            self.request.payload.address.eq(Mux(opcode == Opcode.GEMV, gemv.source, load.source)),
            self.request.payload.beats.eq(checker.beats),
            self.request.payload.kind.eq(Mux(opcode == Opcode.GEMV, ReadKind.WEIGHT, ReadKind.VECTOR)),
            self.request.payload.command.eq(index),
            self.o.payload.opcode.eq(opcode),
            self.o.payload.command.eq(index),
            self.o.payload.keep.eq(gemv.keep),
            self.o.payload.format.eq(gemv.format),
            self.o.payload.slot.eq(load.slot),
            self.o.payload.slots.eq(gemv.slots),
            self.o.payload.stride.eq(quantise.stride),
            self.o.payload.offset.eq(gemv.offset),
            self.o.payload.rows.eq(gemv.rows),
            self.o.payload.blocks.eq(gemv.blocks),
            self.o.payload.destination.eq(gemv.destination),
        ]

        def fail(code: ErrorCode, at: Any = 0, address: Any = 0) -> list[Any]:
            return [self.error.code.eq(code), self.error.command.eq(at), self.error.address.eq(address)]

        remaining = Signal(16)
        wait = Signal(range(checker.LATENCY))

        def stop_on_error() -> None:
            """In states in which the masters work: an error on the bus overrides whatever the state has decided."""
            with m.If(self.read_error):
                m.d.sync += fail(ErrorCode.READ_ERROR, self.read_error_command, self.read_error_address)
            with m.Elif(self.write_error):
                m.d.sync += fail(ErrorCode.WRITE_ERROR, self.write_error_command, self.write_error_address)
            with m.Elif(self.expired):
                m.d.sync += fail(ErrorCode.WATCHDOG, self.expired_command)
            with m.If(self.read_error | self.write_error | self.expired):
                m.d.comb += self.aborting.eq(1)
                m.next = "ABORT"

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.flush.eq(1)
                with m.If(self.start):
                    m.d.sync += [self.running.eq(1), *fail(ErrorCode.NONE)]
                    m.next = "RECOVER"
            with m.State("RECOVER"):
                m.d.comb += self.flush.eq(1)
                m.d.sync += remaining.eq(self.length)
                with m.If(self.expired):
                    m.d.sync += fail(ErrorCode.WATCHDOG)
                    m.next = "FINISH"
                with m.Elif(self.quiet):
                    m.next = "FETCH"
                    high = self.address[config.address_width :].any() if config.address_width < 64 else 0
                    with m.If((self.length > MAX_COMMANDS) | high):
                        m.d.sync += fail(ErrorCode.OUT_OF_RANGE)
                        m.next = "FINISH"
                    with m.Elif(self.address % ALIGNMENT != 0):
                        m.d.sync += fail(ErrorCode.MISALIGNED)
                        m.next = "FINISH"
                    with m.Elif(self.length == 0):
                        m.next = "FINISH"
            with m.State("FETCH"):
                m.d.comb += self.fetch_start.eq(1)
                m.next = "DECODE"
            with m.State("DECODE"):
                m.d.sync += wait.eq(checker.LATENCY - 1)
                with m.If(remaining == 0):
                    m.next = "DRAIN"
                with m.Elif(self.i.valid):
                    m.next = "CHECK"
                stop_on_error()
            with m.State("CHECK"):
                m.d.comb += checker.enable.eq(1)
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "ISSUE"
                stop_on_error()
            with m.State("ISSUE"):
                with m.If(checker.code != ErrorCode.NONE):
                    m.d.sync += fail(checker.code, index)
                    m.next = "FAIL"
                with m.Elif(opcode == Opcode.FENCE):
                    m.next = "FENCE"
                with m.Elif(reads):
                    m.d.comb += self.request.valid.eq(1)
                    with m.If(self.request.ready):
                        m.next = "EXECUTE"
                with m.Else():
                    m.next = "EXECUTE"
                stop_on_error()
            with m.State("EXECUTE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.comb += [self.i.ready.eq(1), self.command.eq(1)]
                    m.d.sync += remaining.eq(remaining - 1)
                    m.next = "DECODE"
                stop_on_error()
            with m.State("FENCE"):
                m.d.comb += self.fence.eq(1)
                with m.If(self.drained):
                    m.d.comb += [self.i.ready.eq(1), self.command.eq(1)]
                    m.d.sync += remaining.eq(remaining - 1)
                    m.next = "DECODE"
                stop_on_error()
            with m.State("FAIL"):
                m.d.comb += self.fence.eq(1)
                with m.If(self.drained):
                    m.next = "ABORT"
                stop_on_error()
            with m.State("DRAIN"):
                m.d.comb += self.drain.eq(1)
                with m.If(self.drained):
                    m.next = "FINISH"
                stop_on_error()
            with m.State("ABORT"):
                m.d.comb += self.flush.eq(1)
                with m.If(self.quiet):
                    m.next = "FINISH"
                with m.Elif(self.expired):
                    # The command stays the one that failed first: the executor, in reset, does not know it any more.
                    m.d.sync += [self.error.code.eq(ErrorCode.WATCHDOG), self.error.address.eq(0)]
                    m.next = "FINISH"
            with m.State("FINISH"):
                # The masters must see no gap in `flush` as long as the bus is not quiet.
                m.d.comb += [self.flush.eq(1), self.done.eq(1)]
                m.d.sync += self.running.eq(0)
                m.next = "IDLE"
        return m
