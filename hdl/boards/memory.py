"""A LiteDRAM core as a component."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from ..axi.signature import BURST_INCR, AxiRead, AxiWrite
from .dram import HOST_WIDTH
from .levelling import LAST_BURSTS, TRIAL_BURSTS, Levelling
from .litedram import LiteDram
from .port_choice import choose_port, choose_writer
from .port_registers import PortRegisters
from .row_ports import RowPorts
from .sdram_start import SdramStart
from .word_port import WordPort

#: Bursts of a trial and of the last run with LiteDRAM's model, which is wrong in one read of 64 where it is unsure.
MODEL_BURSTS = (2, 16)


class BoardMemory(wiring.Component):
    """Memory behind two AXI ports, which starts itself after reset, and aligns a DDR3's reads.

    Reads and writes of a port are in order, each for itself; a read that is asked for after a write has been answered finds
    what was written, also through the other port. Nothing is taken before `ready`. Addresses repeat every `memory_bytes`, and
    every answer is OKAY: LiteDRAM knows no errors.

    Parameters
    ----------
    controller : LiteDram
    address_width : int
        Bits of the co-processor's addresses.
    pads : mapping of str to IOPort or Signal
        What `LiteDram.board_ports` of the controller are joined to, by name, as in ``sdram_dq``; none for a simulated memory.

    Attributes
    ----------
    core_read : AxiRead(address_width, controller.data_width), in
    core_write : AxiWrite(address_width, controller.data_width), in
    host_read : AxiRead(32, 32), in
    host_write : AxiWrite(32, 32), in
        Bursts of one beat.
    ready : out
    failed : out
        A bit for each byte lane whose reads can't be aligned: the memory never gets ready. One bit, 0, if nothing is aligned.

    Raises
    ------
    ValueError
        If the pads are not those that the controller has.
    """

    def __init__(self, controller: LiteDram, address_width: int, pads: Mapping[str, Any] | None = None) -> None:
        self._controller, self._pads = controller, dict(pads or {})
        wanted = controller.board_ports
        if sorted(self._pads) != wanted:
            raise ValueError(f"the pads must be {wanted}, not {sorted(self._pads)}")
        super().__init__(
            {
                "core_read": In(AxiRead(address_width, controller.data_width)),
                "core_write": In(AxiWrite(address_width, controller.data_width)),
                "host_read": In(AxiRead(32, HOST_WIDTH)),
                "host_write": In(AxiWrite(32, HOST_WIDTH)),
                "ready": Out(1),
                "failed": Out(controller.read_phases.lanes if controller.read_phases else 1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        controller = self._controller
        m.submodules.start = writer = start = SdramStart(controller.start)
        widths = len(self.core_read.ar.p.address), controller.data_width
        core = self.core_read, self.core_write
        in_turn = len(controller.core_ports) > 1
        if in_turn:
            m.submodules.registers = registers = PortRegisters(*widths)
            connect(m, flipped(self.core_read), registers.core_read)
            connect(m, flipped(self.core_write), registers.core_write)
            core = registers.read, registers.write
        (read, write), ready = core, start.done
        if controller.read_phases:
            trial, last = MODEL_BURSTS if controller.simulated else (TRIAL_BURSTS, LAST_BURSTS)
            m.submodules.levelling = levelling = Levelling(
                controller.read_phases, *widths, trial_bursts=trial, last_bursts=last
            )
            read, write = AxiRead(*widths).create(), AxiWrite(*widths).create()
            choose_port(m, levelling.done, core, (levelling.read, levelling.write), (read, write))
            writer, ready = choose_writer(m, ~start.done, start, levelling), levelling.done
            m.d.comb += levelling.enable.eq(start.done)
            m.d.sync += self.failed.eq(levelling.failed)
        inputs: dict[str, Any] = {
            "clk": ClockSignal(),
            "rst": ResetSignal(),
            "wb_ctrl_adr": writer.address,
            "wb_ctrl_dat_w": writer.data,
            "wb_ctrl_sel": 0b1111,
            "wb_ctrl_cyc": writer.request,
            "wb_ctrl_stb": writer.request,
            "wb_ctrl_we": writer.request,
        }
        outputs: dict[str, Any] = {"wb_ctrl_ack": writer.acknowledge}
        host_read, host_write = self.host_read, self.host_write
        if controller.host_width != HOST_WIDTH:
            m.submodules.words = words = WordPort(32, controller.host_width)
            connect(m, flipped(host_read), words.host_read)
            connect(m, flipped(host_write), words.host_write)
            host_read, host_write = words.read, words.write
        joined = [(read, write)]
        if in_turn:
            m.submodules.rows = rows = RowPorts(*widths, controller.row_bytes)
            connect(m, read, rows.read)
            connect(m, write, rows.write)
            joined = list(zip(rows.reads, rows.writes, strict=True))
        for port, (of_read, of_write) in zip((*controller.core_ports, "host"), (*joined, (host_read, host_write)), strict=True):
            _join(inputs, outputs, f"user_port_{port}_", of_read, of_write)

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
        m.d.sync += self.ready.eq(ready)
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
