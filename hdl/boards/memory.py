"""A LiteDRAM core as a component."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..axi.signature import BURST_INCR, AxiRead, AxiWrite
from .litedram import HOST_WIDTH, LiteDram
from .sdram_start import SdramStart


class BoardMemory(wiring.Component):
    """Memory behind two AXI ports, which starts itself after reset.

    Reads and writes of a port are in order, each for itself; a read that is asked for after a write has been answered finds
    what was written, also through the other port. Nothing is taken before `ready`. Addresses repeat every `memory_bytes`, and
    every answer is OKAY: LiteDRAM knows no errors.

    Parameters
    ----------
    controller : LiteDram
    address_width : int
        Bits of the co-processor's addresses.
    pads : mapping of str to IOPort
        The pads of the memory by LiteDRAM's names, as in ``sdram_dq``; none for a simulated memory.

    Attributes
    ----------
    core_read : AxiRead(address_width, controller.data_width), in
    core_write : AxiWrite(address_width, controller.data_width), in
    host_read : AxiRead(32, 32), in
    host_write : AxiWrite(32, 32), in
    ready : out

    Raises
    ------
    ValueError
        If the pads are not those that the controller has.
    """

    def __init__(self, controller: LiteDram, address_width: int, pads: Mapping[str, Any] | None = None) -> None:
        self._controller, self._pads = controller, dict(pads or {})
        wanted = sorted(name for name in controller.ports if name.startswith("sdram_"))
        if sorted(self._pads) != wanted:
            raise ValueError(f"the pads must be {wanted}, not {sorted(self._pads)}")
        super().__init__(
            {
                "core_read": In(AxiRead(address_width, controller.data_width)),
                "core_write": In(AxiWrite(address_width, controller.data_width)),
                "host_read": In(AxiRead(32, HOST_WIDTH)),
                "host_write": In(AxiWrite(32, HOST_WIDTH)),
                "ready": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        controller = self._controller
        m.submodules.start = start = SdramStart(controller.start)
        inputs: dict[str, Any] = {
            "clk": ClockSignal(),
            "rst": ResetSignal(),
            "wb_ctrl_adr": start.address,
            "wb_ctrl_dat_w": start.data,
            "wb_ctrl_sel": 0b1111,
            "wb_ctrl_cyc": start.request,
            "wb_ctrl_stb": start.request,
            "wb_ctrl_we": start.request,
        }
        outputs: dict[str, Any] = {"wb_ctrl_ack": start.acknowledge}
        for port, read, write in (("core", self.core_read, self.core_write), ("host", self.host_read, self.host_write)):
            _join(inputs, outputs, f"user_port_{port}_", read, write)

        arguments = []
        for name, (direction, bits) in controller.ports.items():
            if name in self._pads:
                arguments.append(({"input": "i", "output": "o", "inout": "io"}[direction], name, self._pads[name]))
            elif direction == "input":
                value = Signal(bits, name=name)
                m.d.comb += value.eq(inputs.get(name, 0))
                arguments.append(("i", name, value))
            elif name in outputs:
                arguments.append(("o", name, outputs[name]))
        m.submodules.controller = Instance(controller.name, *arguments)
        m.d.sync += self.ready.eq(start.done)
        return m


def _join(inputs: dict[str, Any], outputs: dict[str, Any], prefix: str, read: Any, write: Any) -> None:
    """Join an AXI port's streams to the ports of the controller: what comes from the master to `inputs`."""
    ar, r, aw, w, b = (channel.payload for channel in (read.ar, read.r, write.aw, write.w, write.b))
    from_master = {
        "arvalid": read.ar.valid,
        "araddr": ar.address,
        "arlen": ar.length,
        "arsize": exact_log2(len(r.data) // 8),
        "arburst": BURST_INCR,
        "rready": read.r.ready,
        "awvalid": write.aw.valid,
        "awaddr": aw.address,
        "awlen": aw.length,
        "awsize": exact_log2(len(w.data) // 8),
        "awburst": BURST_INCR,
        "wvalid": write.w.valid,
        "wdata": w.data,
        "wstrb": w.strobe,
        "wlast": w.last,
        "bready": write.b.ready,
    }
    to_master = {
        "arready": read.ar.ready,
        "rvalid": read.r.valid,
        "rdata": r.data,
        "rresp": r.response,
        "rlast": r.last,
        "awready": write.aw.ready,
        "wready": write.w.ready,
        "bvalid": write.b.valid,
        "bresp": b.response,
    }
    inputs |= {prefix + name: value for name, value in from_master.items()}
    outputs |= {prefix + name: value for name, value in to_master.items()}
