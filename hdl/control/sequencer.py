"""Runs a program: works out each command, checks it, asks for what it reads, and passes it on."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import (
    ADDRESS_UNIT,
    ANY_PENDING,
    ARGUMENTS,
    COMMAND_BYTES,
    MODIFIABLE,
    MODIFIERS,
    Opcode,
    SetMode,
)

from ..axi.signature import ReadKind, read_request_layout
from .checker import CommandChecker
from .command_fetch import fetched_layout
from .layout import command_layout, error_layout, operation_layout
from .register_file import REGISTER_BITS, RegisterFile

#: Bits of a modifier: the word that it changes and the register that it adds.
WORD_BITS, MODIFIER_BITS = 4, 9
#: Products of halves of registers fit the multipliers of FPGAs.
HALF_BITS = REGISTER_BITS // 2


class Sequencer(wiring.Component):
    """The fetch side of the device: it runs ahead of the units that execute, as far as their queues reach.

    A run goes: reset everything, check the queue, then for each command apply modifiers, check, hand to the dispatcher, request
    the reads; at the end wait until all is done. `SET`, `LOOP`, `FENCE` and `READ` are carried out here. A command that fails
    its check stops the run after all commands before it have completed. A run ends when the bus is quiet: reads that were asked
    for in vain, past a `LOOP` that was left, have come before `done`. An error on the bus, or the watchdog, stops it at once:
    the masters finish what the bus rules oblige them to, everything else is reset, and the run ends when the bus is quiet. If
    it never becomes quiet (the watchdog expires again), the run ends all the same, with `WATCHDOG` at the command that had
    failed, and the next one waits for the bus first.

    A command takes `CommandChecker.LATENCY` + 4 cycles here, 1 more for each read, and 2 for each modifier; `SET` takes 7
    more. After a `LOOP` that is left the next command comes when the memory has delivered it: `CommandFetch` expects loops to
    be taken.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    start : in
        1 for one cycle: run the queue of `length` commands with `arguments`.
    length, arguments : in
    code : in
        An `ErrorCode`: why the run can't begin. It is looked at `REGISTERS` cycles after `start` at the earliest.
    running : out
        1 from the cycle after `start` until the cycle of `done`.
    done, error : out
        `done` is 1 for one cycle at the end of a run; `error` says how it ended and stays valid.
    fetch_start, fetch_index : out
        1 for one cycle: start fetching commands from that one on. Registers.
    i : stream of fetched commands, in
    request : stream of read requests, out
    o : stream of operations, out
    value : stream of 32 bits, in
        What a `READ` has read.
    vector_unfinished : in
        Operations of the vector unit that were passed on and are not finished.
    writes_done : in
        All writes of finished operations have been acknowledged.
    drained : in
        1 when all operations passed on have completed and their writes were acknowledged.
    quiet : in
        1 when both masters are idle.
    flush : out
        1 while the masters must drop their work and everything between them is held in reset: from an abort, or the end of a
        run, until the next run has found the bus quiet. A register: it goes to everything.
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
                "length": In(16),
                "code": In(8),
                "arguments": In(data.ArrayLayout(REGISTER_BITS, ARGUMENTS)),
                "running": Out(1),
                "done": Out(1),
                "error": Out(error_layout(config)),
                "fetch_start": Out(1),
                "fetch_index": Out(16),
                "i": In(stream.Signature(fetched_layout())),
                "request": Out(stream.Signature(read_request_layout(config.address_width))),
                "o": Out(stream.Signature(operation_layout())),
                "value": In(stream.Signature(REGISTER_BITS)),
                "vector_unfinished": In(8),
                "writes_done": In(1),
                "drained": In(1),
                "quiet": In(1),
                "flush": Out(1, init=1),
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
        m.submodules.registers = registers = RegisterFile()
        m.submodules.checker = checker = CommandChecker(config)
        # The command at work; its modifiers are taken off as they are applied.
        command, index = Signal(8 * COMMAND_BYTES), Signal(16)
        opcode = Signal(8)
        view = {op: command_layout(op)(command) for op in Opcode}
        gemv, set_ = view[Opcode.GEMV], view[Opcode.SET]
        m.d.comb += [
            opcode.eq(command[:8]),
            checker.command.eq(command),
            registers.start.eq(self.start),
            registers.arguments.eq(self.arguments),
        ]

        # A product with a stride asks for one group of rows after the other.
        offset, reads_left = Signal(config.address_width), Signal.like(checker.reads)
        unit = exact_log2(ADDRESS_UNIT)
        m.d.comb += [
            self.request.payload.address.eq((gemv.source << unit) + offset),
            self.request.payload.beats.eq(checker.beats),
            self.request.payload.kind.eq(Mux(opcode == Opcode.GEMV, ReadKind.WEIGHT, ReadKind.VECTOR)),
            self.request.payload.command.eq(index),
            self.o.payload.command.eq(command),
            self.o.payload.index.eq(index),
        ]

        def fail(code: ErrorCode, at: Any = 0, address: Any = 0) -> list[Any]:
            return [self.error.code.eq(code), self.error.command.eq(at), self.error.address.eq(address)]

        wait = Signal(range(checker.LATENCY))

        # An error stays until it is answered with a flush. One that comes with the last write is not later than that is known.
        broken = Signal()
        m.d.sync += broken.eq(self.read_error | self.write_error | self.expired)

        def stop_on_error() -> None:
            """In states in which the masters work: an error on the bus overrides whatever the state has decided."""
            with m.If(broken):
                m.d.comb += self.aborting.eq(1)
                m.d.sync += self.flush.eq(1)
                m.next = "ABORT"
                with m.If(self.read_error):
                    m.d.sync += fail(ErrorCode.READ_ERROR, self.read_error_command, self.read_error_address)
                with m.Elif(self.write_error):
                    m.d.sync += fail(ErrorCode.WRITE_ERROR, self.write_error_command, self.write_error_address)
                with m.Else():
                    m.d.sync += fail(ErrorCode.WATCHDOG, self.expired_command)

        def next_command(condition: Any = 1) -> None:
            with m.If(condition):
                m.d.comb += self.command.eq(1)
                m.next = "DECODE"

        modifiers = command[32 * 15 : 32 * 15 + MODIFIER_BITS * MODIFIERS]
        word = modifiers[:WORD_BITS]
        modifiable = Signal()
        with m.Switch(opcode):
            with m.Case(*MODIFIABLE):
                m.d.comb += modifiable.eq(1)
        operand, addend = Signal(REGISTER_BITS), Signal(REGISTER_BITS)
        product, shifted, limited = Signal(REGISTER_BITS), Signal(REGISTER_BITS), Signal(REGISTER_BITS)
        low, above, equal = Signal(REGISTER_BITS), Signal(), Signal()
        middle = [Signal(HALF_BITS, name=f"middle_{n}") for n in range(2)]
        write_address = Signal(5)
        m.d.comb += [registers.write_address.eq(write_address), registers.write_data.eq(limited)]
        # Of `index` in the cycle before, which has not changed since wherever this is looked at.
        finished = Signal()
        m.d.sync += self.fetch_index.eq(index + 1)
        m.d.sync += finished.eq((index + 1)[:16] == self.length)
        # Of the cycle before, in which the command was the same, and no fewer operations were unfinished.
        pending_met = Signal()
        m.d.sync += pending_met.eq((self.vector_unfinished <= gemv.pending) | (gemv.pending == ANY_PENDING))

        with m.FSM(init="IDLE") as fsm:
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [*fail(ErrorCode.NONE), self.running.eq(1)]
                    m.next = "RESET"
            with m.State("RESET"):
                # A memory that did not answer to the last run may still do so.
                # Whatever command comes first: it is not behind the last one.
                m.d.sync += index.eq(-1)
                with m.If(self.expired):
                    m.d.sync += fail(ErrorCode.WATCHDOG)
                    m.next = "FINISH"
                with m.Elif(self.quiet & registers.ready):
                    with m.If(self.code != ErrorCode.NONE):
                        m.d.sync += fail(self.code)
                        m.next = "FINISH"
                    with m.Elif(self.length == 0):
                        m.next = "FINISH"
                    with m.Else():
                        m.d.sync += [self.flush.eq(0), self.fetch_start.eq(1)]
                        m.next = "FETCH"
            with m.State("FETCH"):
                m.d.sync += self.fetch_start.eq(0)
                m.next = "DECODE"
            with m.State("DECODE"):
                m.d.sync += [wait.eq(checker.LATENCY - 1), offset.eq(0)]
                with m.If(finished):
                    m.next = "DRAIN"
                with m.Else():
                    m.d.comb += self.i.ready.eq(1)
                    with m.If(self.i.valid):
                        m.d.sync += [command.eq(self.i.payload.command), index.eq(self.i.payload.index)]
                        m.next = "MODIFY"
                stop_on_error()
            with m.State("MODIFY"):
                m.d.comb += registers.address.eq(modifiers[WORD_BITS:MODIFIER_BITS])
                with m.If(modifiable & modifiers.any()):
                    with m.Switch(word):
                        for n in range(1, 15):
                            with m.Case(n):
                                m.d.sync += operand.eq(command.word_select(n, 32))
                    m.d.sync += addend.eq(registers.data)
                    m.next = "ADD"
                with m.Else():
                    m.next = "CHECK"
                stop_on_error()
            with m.State("ADD"):
                with m.Switch(word):
                    for n in range(1, 15):
                        with m.Case(n):
                            m.d.sync += command.word_select(n, 32).eq(operand + addend)
                m.d.sync += modifiers.eq(modifiers >> MODIFIER_BITS)
                m.next = "MODIFY"
                stop_on_error()
            with m.State("CHECK"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "ISSUE"
                stop_on_error()
            with m.State("ISSUE"):
                m.d.sync += reads_left.eq(checker.reads)
                with m.If(checker.code != ErrorCode.NONE):
                    m.d.sync += fail(checker.code, index)
                    m.next = "FAIL"
                with m.Else():
                    m.next = "EXECUTE"
                    with m.Switch(opcode):
                        with m.Case(Opcode.FENCE):
                            m.next = "FENCE"
                        with m.Case(Opcode.SET):
                            m.next = "SET FACTORS"
                        with m.Case(Opcode.LOOP):
                            m.next = "LOOP"
                stop_on_error()
            with m.State("EXECUTE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    with m.If(opcode == Opcode.READ):
                        m.next = "READ"
                    with m.Elif(checker.beats != 0):
                        m.next = "REQUEST"
                    with m.Else():
                        next_command()
                stop_on_error()
            with m.State("REQUEST"):
                # The operation has been handed over: the reads of a product with a stride may be more than there is room for
                # until it takes them.
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.d.sync += [offset.eq(offset + (gemv.stride << unit)), reads_left.eq(reads_left - 1)]
                    next_command(reads_left == 1)
                stop_on_error()
            with m.State("READ"):
                m.d.comb += [self.fence.eq(1), self.value.ready.eq(1)]
                m.d.sync += [limited.eq(self.value.payload), write_address.eq(view[Opcode.READ].register)]
                with m.If(self.value.valid):
                    m.next = "WRITE"
                stop_on_error()
            with m.State("FENCE"):
                m.d.comb += self.fence.eq(1)
                next_command(pending_met & self.writes_done)
                stop_on_error()
            with m.State("SET FACTORS"):
                m.d.comb += registers.address.eq(set_.x)
                m.d.sync += [operand.eq(registers.data), write_address.eq(set_.register)]
                m.next = "SET MULTIPLY"
                stop_on_error()
            with m.State("SET MULTIPLY"):
                m.d.comb += registers.address.eq(set_.y)
                m.d.sync += [
                    low.eq(operand[:HALF_BITS] * set_.factor[:HALF_BITS]),
                    middle[0].eq(operand[HALF_BITS:] * set_.factor[:HALF_BITS]),
                    middle[1].eq(operand[:HALF_BITS] * set_.factor[HALF_BITS:]),
                    addend.eq(registers.data),
                ]
                m.next = "SET PRODUCT"
                stop_on_error()
            with m.State("SET PRODUCT"):
                m.d.sync += [
                    product.eq(low + ((middle[0] + middle[1]) << HALF_BITS)),
                    addend.eq(addend + set_.addend),
                ]
                m.next = "SET SUM"
                stop_on_error()
            with m.State("SET SUM"):
                m.d.sync += product.eq(product + addend)
                m.next = "SET SHIFT"
                stop_on_error()
            with m.State("SET SHIFT"):
                m.d.sync += shifted.eq(product >> set_.shift)
                m.next = "SET COMPARE"
                stop_on_error()
            with m.State("SET COMPARE"):
                m.d.sync += [above.eq(shifted > set_.limit), equal.eq(shifted == set_.limit)]
                m.next = "SET LIMIT"
                stop_on_error()
            with m.State("SET LIMIT"):
                m.d.sync += limited.eq(shifted)
                with m.If((set_.mode == SetMode.MINIMUM) & above):
                    m.d.sync += limited.eq(set_.limit)
                with m.If((set_.mode == SetMode.WRAP) & (above | equal)):
                    m.d.sync += limited.eq(0)
                m.next = "WRITE"
                stop_on_error()
            with m.State("WRITE"):
                m.d.comb += registers.write.eq(1)
                next_command()
                stop_on_error()
            with m.State("LOOP"):
                loop = view[Opcode.LOOP]
                m.d.comb += registers.address.eq(loop.register)
                m.d.sync += [operand.eq(registers.data), write_address.eq(loop.register)]
                with m.If(loop.target > index):
                    m.d.sync += fail(ErrorCode.BAD_FIELD, index)
                    m.next = "FAIL"
                with m.Else():
                    m.next = "COUNT"
                stop_on_error()
            with m.State("COUNT"):
                m.d.sync += limited.eq(operand - 1)
                m.next = "JUMP"
                stop_on_error()
            with m.State("JUMP"):
                m.d.comb += registers.write.eq(1)
                with m.If((limited != 0) & (write_address != 0)):
                    # A target is not behind the last command.
                    m.d.sync += [index.eq(view[Opcode.LOOP].target - 1), finished.eq(0)]
                    next_command()
                with m.Elif(finished):
                    next_command()
                with m.Else():
                    # Commands come as if every loop were taken.
                    m.d.sync += self.fetch_start.eq(1)
                    m.next = "LEAVE"
                stop_on_error()
            with m.State("LEAVE"):
                m.d.sync += self.fetch_start.eq(0)
                next_command()
                stop_on_error()
            with m.State("FAIL"):
                m.d.comb += self.fence.eq(1)
                with m.If(self.drained):
                    m.d.sync += self.flush.eq(1)
                    m.next = "ABORT"
                stop_on_error()
            with m.State("DRAIN"):
                m.d.comb += self.drain.eq(1)
                with m.If(self.drained):
                    m.d.sync += self.flush.eq(1)
                    m.next = "ABORT"
                stop_on_error()
            with m.State("ABORT"):
                # Commands that were asked for in vain, past a loop, may still be on their way after the last one is done.
                complete = self.error.code == ErrorCode.NONE
                m.d.comb += self.drain.eq(complete)
                with m.If(self.quiet):
                    m.next = "FINISH"
                with m.Elif(self.expired):
                    # The command stays the one that failed first: the units, in reset, do not know it any more.
                    m.d.sync += [self.error.code.eq(ErrorCode.WATCHDOG), self.error.address.eq(0)]
                    with m.If(complete):
                        m.d.sync += self.error.command.eq(index)
                    m.next = "FINISH"
            with m.State("FINISH"):
                # The masters must see no gap in `flush` as long as the bus is not quiet.
                m.d.comb += self.done.eq(1)
                m.d.sync += self.running.eq(0)
                m.next = "IDLE"
        m.d.comb += checker.enable.eq(fsm.ongoing("CHECK"))
        return m
