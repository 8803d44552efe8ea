"""The fetch side of the device."""

from typing import Any

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tailrace.spec.config import Config
from tailrace.spec.isa import ARGUMENTS

from ..axi.signature import bus_error_layout, read_request_layout
from .command_fetch import fetched_layout
from .interpreter import Interpreter
from .layout import error_layout, operation_layout
from .register_file import REGISTER_BITS, RegisterFile
from .run_control import RunControl


class Sequencer(wiring.Component):
    """Runs programs: `RunControl` begins and ends them, `Interpreter` works through their commands, with `RegisterFile`.

    The interpreter is held in reset but for the time in which its program is to go on. So whatever stops a run stops it in
    every state, in one place.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    start : in
        1 for one cycle: run the queue of `length` commands.
    length : in
    loading : out
        1 while registers are set to the arguments.
    argument_place, argument : out, in
        As of `RegisterFile`.
    code : in
        An `ErrorCode`: why the run can't begin. It is looked at `REGISTERS` cycles after `start` at the earliest.
    running, done, error, flush, aborting : out
        As of `RunControl`.
    fetch_start, fetch_index : out
    i : stream of fetched commands, in
    request : stream of read requests, out
    o : stream of operations, out
    value : stream of 32 bits, in
        As of `Interpreter`.
    vector_unfinished, writes_done : in
        As of `Interpreter`.
    drained, quiet, read_error, write_error, expired, expired_command : in
        As of `RunControl`.
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
                "loading": Out(1),
                "argument_place": Out(range(ARGUMENTS)),
                "argument": In(REGISTER_BITS),
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
                "flush": Out(1),
                "read_error": In(bus_error_layout(config.address_width)),
                "write_error": In(bus_error_layout(config.address_width)),
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
        m.submodules.run = run = RunControl(self._config)
        m.submodules.registers = registers = RegisterFile()
        interpreter = Interpreter(self._config)
        m.submodules.interpreter = ResetInserter(~run.go)(interpreter)

        connect(m, flipped(self.i), interpreter.i)
        connect(m, interpreter.request, flipped(self.request))
        connect(m, interpreter.o, flipped(self.o))
        connect(m, flipped(self.value), interpreter.value)
        m.d.comb += [
            registers.start.eq(self.start),
            registers.argument.eq(self.argument),
            self.argument_place.eq(registers.argument_place),
            self.loading.eq(~registers.ready),
            registers.address.eq(interpreter.register),
            interpreter.register_data.eq(registers.data),
            registers.write.eq(interpreter.write),
            registers.write_address.eq(interpreter.write_register),
            registers.write_data.eq(interpreter.write_data),
            run.start.eq(self.start),
            run.ready.eq(registers.ready),
            run.code.eq(self.code),
            run.empty.eq(self.length == 0),
            run.ended.eq(interpreter.ended),
            run.ended_code.eq(interpreter.code),
            run.command.eq(interpreter.index),
            run.drained.eq(self.drained),
            run.quiet.eq(self.quiet),
            run.read_error.eq(self.read_error),
            run.write_error.eq(self.write_error),
            run.expired.eq(self.expired),
            run.expired_command.eq(self.expired_command),
            self.running.eq(run.running),
            self.done.eq(run.done),
            self.error.eq(run.error),
            self.flush.eq(run.flush),
            self.aborting.eq(run.aborting),
            self.drain.eq(run.drain),
            interpreter.length.eq(self.length),
            interpreter.vector_unfinished.eq(self.vector_unfinished),
            interpreter.writes_done.eq(self.writes_done),
            self.fetch_start.eq(interpreter.fetch_start),
            self.fetch_index.eq(interpreter.fetch_index),
            self.fence.eq(interpreter.fence),
            self.command.eq(interpreter.command),
        ]
        return m
