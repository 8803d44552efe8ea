"""Registers between a master and its memory."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi.signature import AxiRead, AxiWrite, address_layout, read_data_layout, write_data_layout, write_response_layout
from ..stream_register import StreamRegister


class PortRegisters(wiring.Component):
    """A register on each channel of an AXI port, so that no path leads from the master to the memory or back.

    The core and the controller lie apart on an FPGA: a path from the one's logic through the wires between them to the other's
    was the slowest of the ECPIX-5.

    Latency: 1 cycle for what is asked, 1 for what is answered. Throughput: one transfer a cycle on each channel.

    Parameters
    ----------
    address_width, data_width : int

    Attributes
    ----------
    core_read : AxiRead(address_width, data_width), in
    core_write : AxiWrite(address_width, data_width), in
        The master's side.
    read : AxiRead(address_width, data_width), out
    write : AxiWrite(address_width, data_width), out
        The memory's side.
    """

    #: Cycles that each channel takes.
    latency = StreamRegister.latency

    def __init__(self, address_width: int, data_width: int) -> None:
        self._shapes = {
            "ar": address_layout(address_width),
            "aw": address_layout(address_width),
            "w": write_data_layout(data_width),
            "r": read_data_layout(data_width),
            "b": write_response_layout(),
        }
        read, write = AxiRead(address_width, data_width), AxiWrite(address_width, data_width)
        super().__init__({"core_read": In(read), "core_write": In(write), "read": Out(read), "write": Out(write)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for name, shape in self._shapes.items():
            m.submodules[name] = register = StreamRegister(shape)
            of_core, of_memory = (
                (self.core_read, self.read) if name in self.core_read.signature.members else (self.core_write, self.write)
            )
            source, sink = getattr(of_core, name), getattr(of_memory, name)
            if name in ("r", "b"):
                source, sink = sink, source
            connect(m, flipped(source), register.i)
            connect(m, register.o, flipped(sink))
        return m
