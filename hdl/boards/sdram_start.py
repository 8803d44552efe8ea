"""Starts a memory controller."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .litedram import ControlWrite

#: Bits of a Wishbone address, of 32-bit words.
ADDRESS_BITS = 30
#: The members of what writes to a Wishbone port: a word address, data, CYC with STB and WE, and ACK.
CONTROL_PORT: dict[str, wiring.Member] = {
    "address": Out(ADDRESS_BITS),
    "data": Out(32),
    "request": Out(1),
    "acknowledge": In(1),
}


class SdramStart(wiring.Component):
    """Write a list of values to a Wishbone port after reset, with pauses, then say that it is done.

    In LiteX's own systems a processor does this. One write after the other, with classic cycles (Wishbone B4, 3.2.3): a write
    is on the port until it is acknowledged, and the next one follows its pause and one cycle.

    Parameters
    ----------
    writes : sequence of ControlWrite
        At least one. Addresses are multiples of 4.

    Attributes
    ----------
    address, data, request, acknowledge
        `CONTROL_PORT`.
    done : out
        All writes have been acknowledged, and their pauses are over.

    Raises
    ------
    ValueError
        If there are no writes, or an address is not a multiple of 4.
    """

    def __init__(self, writes: Sequence[ControlWrite]) -> None:
        if not writes:
            raise ValueError("there must be at least one write")
        for write in writes:
            if write.address % 4:
                raise ValueError(f"the address of a write must be a multiple of 4, not {write.address:#x}")
        self._writes = tuple(writes)
        super().__init__({**CONTROL_PORT, "done": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        longest = max(write.wait for write in self._writes)
        row = data.StructLayout({"address": ADDRESS_BITS, "data": 32, "wait": range(longest + 1)})
        rows = [{"address": write.address // 4, "data": write.value, "wait": write.wait} for write in self._writes]
        m.submodules.table = table = Memory(shape=row, depth=len(rows), init=rows)
        read = table.read_port(domain="comb")
        index, pause = Signal(range(len(rows))), Signal(range(longest + 1))
        m.d.comb += [
            read.addr.eq(index),
            self.address.eq(read.data.address),
            self.data.eq(read.data.data),
        ]
        with m.FSM():
            with m.State("write"):
                m.d.comb += self.request.eq(1)
                with m.If(self.acknowledge):
                    m.d.sync += pause.eq(read.data.wait)
                    m.next = "pause"
            with m.State("pause"):
                with m.If(pause != 0):
                    m.d.sync += pause.eq(pause - 1)
                with m.Elif(index == len(rows) - 1):
                    m.next = "done"
                with m.Else():
                    m.d.sync += index.eq(index + 1)
                    m.next = "write"
            with m.State("done"):
                m.d.comb += self.done.eq(1)
        return m
