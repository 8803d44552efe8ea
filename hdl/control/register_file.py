"""The program's registers."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.isa import ARGUMENTS, FIRST_ARGUMENT, REGISTERS

REGISTER_BITS = 32


class RegisterFile(wiring.Component):
    """The 32 registers of a program, in distributed memory.

    After `start` they are set one by one: to the arguments, or to 0. That takes `REGISTERS` cycles; `ready` is 0 until it is
    done. Register 0 stays 0. Arguments are taken one at a time, so that they may lie in a memory.

    Attributes
    ----------
    start : in
        1 for one cycle: a run begins.
    argument_place : out
    argument : in
        That argument, in the same cycle; to be held while `ready` is 0.
    ready : out
    address : in
        Register to read. Latency: none.
    data : out
    write, write_address, write_data : in
        Set a register; it can be read from the next cycle on.
    """

    start: In(1)
    argument_place: Out(range(ARGUMENTS))
    argument: In(REGISTER_BITS)
    ready: Out(1, init=1)
    address: In(range(REGISTERS))
    data: Out(REGISTER_BITS)
    write: In(1)
    write_address: In(range(REGISTERS))
    write_data: In(REGISTER_BITS)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(REGISTER_BITS), depth=REGISTERS, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [read.addr.eq(self.address), self.data.eq(read.data)]

        place = Signal(range(REGISTERS))
        m.d.comb += self.argument_place.eq(place)
        is_argument = place[exact_log2(ARGUMENTS) :] == FIRST_ARGUMENT // ARGUMENTS
        with m.If(self.start):
            m.d.sync += [self.ready.eq(0), place.eq(0)]
        with m.Elif(~self.ready):
            m.d.sync += [place.eq(place + 1), self.ready.eq(place == REGISTERS - 1)]
        with m.If(self.ready):
            m.d.comb += [
                write.en.eq(self.write & (self.write_address != 0)),
                write.addr.eq(self.write_address),
                write.data.eq(self.write_data),
            ]
        with m.Else():
            m.d.comb += [write.en.eq(1), write.addr.eq(place), write.data.eq(Mux(is_argument, self.argument, 0))]
        return m
