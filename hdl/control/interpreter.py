"""Carries out a program: works out each command, checks it, asks for what it reads, and passes it on."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import ADDRESS_UNIT, ANY_PENDING, COMMAND_BYTES, MODIFIABLE, MODIFIERS, REGISTERS, Opcode

from ..axi.signature import ReadKind, read_request_layout
from .checker import OPCODE_BITS, CommandChecker
from .command_fetch import fetched_layout
from .layout import command_layout, operation_layout
from .register_file import REGISTER_BITS
from .set_arithmetic import SetArithmetic

#: Bits of a modifier: the word that it changes and the register that it adds.
WORD_BITS, MODIFIER_BITS = 4, 9
#: The number of a command that comes before the first one.
_BEFORE = 0xFFFF


class Interpreter(wiring.Component):
    """Work through a program from its first command, as far ahead of the units that execute as their queues reach.

    For each command: apply modifiers, check, hand to the dispatcher, request the reads. `SET`, `LOOP`, `FENCE` and `READ` are
    carried out here. A program that has ended, or come to a command that fails its check, waits to be reset. So is one that is
    stopped, in whatever state it is: nothing here knows of errors on the bus.

    A command takes `command_cycles` here, 1 more for each read, and 2 for each modifier; `SET` takes `set_cycles` more. After a
    `LOOP` that is left the next command comes when the memory has delivered it: `CommandFetch` expects loops to be taken.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    length : in
        Commands of the program.
    fetch_start, fetch_index : out
        1 for one cycle: start fetching commands from that one on; 1 in the first cycle after a reset, too. Registers.
    i : stream of fetched commands, in
    request : stream of read requests, out
    o : stream of operations, out
    value : stream of 32 bits, in
        What a `READ` has read.
    register, register_data : out, in
        The register to read, and what it holds in this cycle.
    write, write_register, write_data : out
        Set a register.
    vector_unfinished : in
        Operations of the vector unit that were passed on and are not finished.
    writes_done : in
        All writes of finished operations have been acknowledged.
    ended : out
        The program is at its end, or at a command that can't be executed; until the next reset.
    code : out
        An `ErrorCode`: why it can't.
    index : out
        The command at work.
    fence, command : out
        Facts of this cycle, for the counters: a command waits for those before it; the program is done with a command.
    """

    #: A command is taken, checked while it turns out that nothing modifies it any more, issued and executed.
    command_cycles = CommandChecker.latency + 3
    #: More of them for `SET`: both registers are read before it is worked out.
    set_cycles = SetArithmetic.latency + 2

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "length": In(16),
                "fetch_start": Out(1, init=1),
                "fetch_index": Out(16),
                "i": In(stream.Signature(fetched_layout())),
                "request": Out(stream.Signature(read_request_layout(config.address_width))),
                "o": Out(stream.Signature(operation_layout())),
                "value": In(stream.Signature(REGISTER_BITS)),
                "register": Out(range(REGISTERS)),
                "register_data": In(REGISTER_BITS),
                "write": Out(1),
                "write_register": Out(range(REGISTERS)),
                "write_data": Out(REGISTER_BITS),
                "vector_unfinished": In(8),
                "writes_done": In(1),
                "ended": Out(1),
                "code": Out(8),
                "index": Out(16, init=_BEFORE),
                "fence": Out(1),
                "command": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, index = self._config, self.index
        m.submodules.checker = checker = CommandChecker(config)
        m.submodules.set_arithmetic = set_arithmetic = SetArithmetic()
        # The command at work; its modifiers are taken off as they are applied.
        command = Signal(8 * COMMAND_BYTES, reset_less=True)
        opcode = Signal(OPCODE_BITS)
        view = {op: command_layout(op)(command) for op in Opcode}
        gemv, set_, loop = view[Opcode.GEMV], view[Opcode.SET], view[Opcode.LOOP]
        operand, addend = Signal(REGISTER_BITS, reset_less=True), Signal(REGISTER_BITS, reset_less=True)
        # What `SET` and `LOOP` read first: in a register of its own, as the operand is chosen from a whole command.
        first = Signal(REGISTER_BITS, reset_less=True)
        written, write_register = Signal(REGISTER_BITS, reset_less=True), Signal(range(REGISTERS), reset_less=True)
        m.d.comb += [
            opcode.eq(command[:OPCODE_BITS]),
            checker.command.eq(command),
            set_arithmetic.command.eq(command),
            set_arithmetic.x.eq(first),
            set_arithmetic.y.eq(addend),
            self.write_register.eq(write_register),
            self.write_data.eq(written),
        ]

        # A product with a stride asks for one group of rows after the other.
        offset, reads_left = Signal(config.address_width, reset_less=True), Signal.like(checker.reads, reset_less=True)
        last_read = Signal(reset_less=True)
        unit = exact_log2(ADDRESS_UNIT)
        m.d.comb += [
            self.request.payload.address.eq((gemv.source << unit) + offset),
            self.request.payload.beats.eq(checker.beats),
            self.request.payload.kind.eq(Mux(opcode == Opcode.GEMV, ReadKind.WEIGHT, ReadKind.VECTOR)),
            self.request.payload.command.eq(index),
            self.o.payload.command.eq(command),
            self.o.payload.index.eq(index),
        ]

        wait = Signal(range(max(checker.latency, set_arithmetic.latency)), reset_less=True)
        modifiers = command[32 * 15 : 32 * 15 + MODIFIER_BITS * MODIFIERS]
        word = modifiers[:WORD_BITS]
        # Which modifiers are left.
        present, modifiable = Signal(MODIFIERS, reset_less=True), Signal()
        arriving = self.i.payload.command
        modified = [arriving[32 * 15 :].word_select(n, MODIFIER_BITS).any() for n in range(MODIFIERS)]
        with m.Switch(arriving[:OPCODE_BITS]):
            with m.Case(*MODIFIABLE):
                m.d.comb += modifiable.eq(1)
        # Modifiers, `SET` and `LOOP` read registers; of a `SET` the second one is read in the cycle after the first one.
        second = Signal()
        m.d.comb += self.register.eq(
            Mux(
                opcode == Opcode.SET,
                Mux(second, set_.y, set_.x),
                Mux(opcode == Opcode.LOOP, loop.register, modifiers[WORD_BITS:MODIFIER_BITS]),
            )
        )
        # Of `index` two cycles before, which has not changed since wherever this is looked at, but by a jump.
        # In two halves, to be short.
        equal, jumped = Signal(2), Signal()
        finished = equal.all()
        m.d.sync += [
            self.fetch_index.eq(index + 1),
            jumped.eq(0),
            equal.eq(Cat(self.fetch_index[n : n + 8] == self.length[n : n + 8] for n in (0, 8)) & ~jumped.replicate(2)),
        ]
        # Of the cycle before, in which the command was the same, and no fewer operations were unfinished.
        pending_met = Signal(reset_less=True)
        m.d.sync += pending_met.eq(~(gemv.pending - self.vector_unfinished)[-1] | (gemv.pending == ANY_PENDING))
        # Of the cycle before, in which the command was the same.
        is_ = {op: Signal(name=f"is_{op.name.lower()}", reset_less=True) for op in Opcode}
        m.d.sync += [found.eq(opcode == op) for op, found in is_.items()]
        again, reads_memory, outside = Signal(reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [reads_memory.eq(checker.beats != 0), outside.eq(loop.target > index)]

        def next_command(condition: Any = 1) -> None:
            with m.If(condition):
                m.d.comb += self.command.eq(1)
                m.next = "DECODE"

        def fail(code: Any) -> None:
            m.d.sync += self.code.eq(code)
            m.next = "END"

        with m.FSM(init="START") as fsm:
            with m.State("START"):
                m.d.sync += self.fetch_start.eq(0)
                m.next = "DECODE"
            with m.State("DECODE"):
                # What comes meanwhile is no command before it is taken; so the many bits do not wait for that.
                m.d.sync += [
                    wait.eq(checker.latency - 2),
                    offset.eq(0),
                    command.eq(arriving),
                    present.eq(Cat(found & modifiable for found in modified)),
                ]
                with m.If(finished):
                    m.next = "END"
                with m.Else():
                    m.d.comb += self.i.ready.eq(1)
                    with m.If(self.i.valid):
                        m.d.sync += index.eq(self.i.payload.index)
                        m.next = "MODIFY"
            with m.State("MODIFY"):
                with m.Switch(word):
                    for n in range(1, 15):
                        with m.Case(n):
                            m.d.sync += operand.eq(command.word_select(n, 32))
                m.d.sync += addend.eq(self.register_data)
                with m.If(present.any()):
                    m.next = "ADD"
                with m.Else():
                    m.next = "CHECK"
            with m.State("ADD"):
                with m.Switch(word):
                    for n in range(1, 15):
                        with m.Case(n):
                            m.d.sync += command.word_select(n, 32).eq(operand + addend)
                m.d.sync += [modifiers.eq(modifiers >> MODIFIER_BITS), present.eq(present >> 1)]
                m.next = "MODIFY"
            with m.State("CHECK"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "ISSUE"
            with m.State("ISSUE"):
                m.d.sync += reads_left.eq(checker.reads)
                with m.If(checker.code != ErrorCode.NONE):
                    fail(checker.code)
                with m.Else():
                    m.next = "EXECUTE"
                    with m.If(is_[Opcode.FENCE]):
                        m.next = "FENCE"
                    with m.If(is_[Opcode.SET]):
                        m.next = "SET X"
                    with m.If(is_[Opcode.LOOP]):
                        m.next = "LOOP"
            with m.State("EXECUTE"):
                m.d.comb += self.o.valid.eq(1)
                m.d.sync += last_read.eq(reads_left == 1)
                with m.If(self.o.ready):
                    with m.If(is_[Opcode.READ]):
                        m.next = "READ"
                    with m.Elif(reads_memory):
                        m.next = "REQUEST"
                    with m.Else():
                        next_command()
            with m.State("REQUEST"):
                # The operation has been handed over: the reads of a product with a stride may be more than there is room for
                # until it takes them.
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.d.sync += [
                        offset.eq(offset + (gemv.stride << unit)),
                        reads_left.eq(reads_left - 1),
                        last_read.eq(reads_left == 2),
                    ]
                    next_command(last_read)
            with m.State("READ"):
                m.d.comb += [self.fence.eq(1), self.value.ready.eq(1)]
                m.d.sync += [written.eq(self.value.payload), write_register.eq(view[Opcode.READ].register)]
                with m.If(self.value.valid):
                    m.next = "WRITE"
            with m.State("FENCE"):
                m.d.comb += self.fence.eq(1)
                next_command(pending_met & self.writes_done)
            with m.State("SET X"):
                m.d.sync += [first.eq(self.register_data), write_register.eq(set_.register)]
                m.next = "SET Y"
            with m.State("SET Y"):
                m.d.comb += set_arithmetic.enable.eq(1)
                m.d.sync += [addend.eq(self.register_data), wait.eq(set_arithmetic.latency - 1)]
                m.next = "SET"
            with m.State("SET"):
                m.d.comb += set_arithmetic.enable.eq(1)
                m.d.sync += [written.eq(set_arithmetic.o), wait.eq(wait - 1)]
                with m.If(wait == 0):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += self.write.eq(1)
                next_command()
            with m.State("LOOP"):
                m.d.sync += [first.eq(self.register_data), write_register.eq(loop.register)]
                with m.If(outside):
                    fail(ErrorCode.BAD_FIELD)
                with m.Else():
                    m.next = "COUNT"
            with m.State("COUNT"):
                m.d.sync += [written.eq(first - 1), again.eq((first != 1) & (write_register != 0))]
                m.next = "JUMP"
            with m.State("JUMP"):
                m.d.comb += self.write.eq(1)
                with m.If(again):
                    # A target is not behind the last command.
                    m.d.sync += [index.eq(loop.target - 1), equal.eq(0), jumped.eq(1)]
                    next_command()
                with m.Elif(finished):
                    next_command()
                with m.Else():
                    # Commands come as if every loop were taken.
                    m.d.sync += self.fetch_start.eq(1)
                    m.next = "LEAVE"
            with m.State("LEAVE"):
                m.d.sync += self.fetch_start.eq(0)
                next_command()
            with m.State("END"):
                m.d.comb += [self.ended.eq(1), self.fence.eq(self.code != ErrorCode.NONE)]
        m.d.sync += second.eq(fsm.ongoing("SET X"))
        m.d.comb += checker.enable.eq(fsm.ongoing("MODIFY") | fsm.ongoing("CHECK"))
        return m
