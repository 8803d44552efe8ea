"""The core with the port names that XRT, Vivado and FuseSoC users expect."""

from typing import Any

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.config import Config, memory_port_names
from tailrace.spec.registers import ADDRESS_BITS

from .axi.signature import BURST_INCR
from .control.probe import probe_ports
from .core import Core

#: Normal, non-cacheable, modifiable, bufferable memory (ARM IHI 0022, A4.4).
_CACHE = 0b0011


class Top(wiring.Component):
    """`Core` with flat, standard AXI ports.

    ``ap_clk`` and ``ap_rst_n`` (synchronous, active low), the AXI4-Lite slave ``s_axi_control``, the AXI4 masters ``m00_axi``,
    ``m01_axi`` and so on, one for each channel (one ID, full-width incrementing bursts), and ``interrupt``.

    The reset goes through two registers, as it has a long way to go to all that it resets (UG1393, "Kernel Interface
    Requirements"). So the core is in reset until two cycles after ``ap_rst_n`` has risen, and takes nothing from the host
    before.

    Parameters
    ----------
    config : Config
    probe : bool
        Whether there are ports ``probe_*`` (`tailrace.hdl.control.probe`), for simulations.
    gated : bool
        Whether the vector unit's clock stands still while it has nothing to do: for simulations, which it makes faster.
    """

    def __init__(self, config: Config, probe: bool = False, gated: bool = False) -> None:
        self.config, self.probe, self.gated = config, probe, gated
        ports = {"ap_clk": In(1), "ap_rst_n": In(1), "interrupt": Out(1), **_control_ports()}
        for name in memory_port_names(config):
            ports |= _memory_ports(name, config)
        super().__init__({**ports, **(probe_ports() if probe else {})})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        m.domains.sync = ClockDomain()
        reset = Signal(2, init=0b11, reset_less=True)
        m.d.sync += reset.eq(Cat(~self.ap_rst_n, reset[0]))
        m.d.comb += [ClockSignal().eq(self.ap_clk), ResetSignal().eq(reset[1])]
        m.submodules.core = core = Core(config, self.gated)
        m.d.comb += self.interrupt.eq(core.interrupt)

        def port(name: str) -> Value:
            return getattr(self, name)

        def channel(prefix: str, stream: Any, out: bool, **fields: str) -> None:
            """Join a channel's stream to its ports; `out` if the stream's data leaves the core."""
            for field, name in fields.items():
                inner, outer = getattr(stream.payload, field), port(f"{prefix}{name}")
                m.d.comb += outer.eq(inner) if out else inner.eq(outer)
            valid, ready = port(f"{prefix}valid"), port(f"{prefix}ready")
            # In reset, or just before it, the core would forget what it takes.
            m.d.comb += (
                [valid.eq(stream.valid), stream.ready.eq(ready)]
                if out
                else [stream.valid.eq(valid), ready.eq(stream.ready & ~reset.any())]
            )

        control = core.control
        if self.probe:
            m.d.comb += [port(name).eq(getattr(core.probe, name.removeprefix("probe_"))) for name in probe_ports()]

        channel("s_axi_control_aw", control.aw, out=False, address="addr")
        channel("s_axi_control_w", control.w, out=False, data="data", strobe="strb")
        channel("s_axi_control_b", control.b, out=True, response="resp")
        channel("s_axi_control_ar", control.ar, out=False, address="addr")
        channel("s_axi_control_r", control.r, out=True, data="data", response="resp")
        for name, read, write in zip(memory_port_names(config), core.read, core.write, strict=True):
            channel(f"{name}_ar", read.ar, out=True, address="addr", length="len")
            channel(f"{name}_r", read.r, out=False, data="data", response="resp", last="last")
            channel(f"{name}_aw", write.aw, out=True, address="addr", length="len")
            channel(f"{name}_w", write.w, out=True, data="data", strobe="strb", last="last")
            channel(f"{name}_b", write.b, out=False, response="resp")
            for address in (f"{name}_ar", f"{name}_aw"):
                m.d.comb += [
                    port(f"{address}size").eq(exact_log2(config.bus_bytes)),
                    port(f"{address}burst").eq(BURST_INCR),
                    port(f"{address}cache").eq(_CACHE),
                ]
        return m


def _control_ports() -> dict[str, Any]:
    ports = {
        "awaddr": In(ADDRESS_BITS),
        "awprot": In(3),
        "awvalid": In(1),
        "awready": Out(1),
        "wdata": In(32),
        "wstrb": In(4),
        "wvalid": In(1),
        "wready": Out(1),
        "bresp": Out(2),
        "bvalid": Out(1),
        "bready": In(1),
        "araddr": In(ADDRESS_BITS),
        "arprot": In(3),
        "arvalid": In(1),
        "arready": Out(1),
        "rdata": Out(32),
        "rresp": Out(2),
        "rvalid": Out(1),
        "rready": In(1),
    }
    return {f"s_axi_control_{name}": port for name, port in ports.items()}


def _memory_ports(prefix: str, config: Config) -> dict[str, Any]:
    address = {
        "id": Out(1),
        "addr": Out(config.address_width),
        "len": Out(8),
        "size": Out(3),
        "burst": Out(2),
        "lock": Out(1),
        "cache": Out(4),
        "prot": Out(3),
        "qos": Out(4),
        "valid": Out(1),
        "ready": In(1),
    }
    ports = {f"{channel}{name}": port for channel in ("aw", "ar") for name, port in address.items()}
    ports |= {
        "wdata": Out(config.bus_width),
        "wstrb": Out(config.bus_bytes),
        "wlast": Out(1),
        "wvalid": Out(1),
        "wready": In(1),
        "bid": In(1),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
        "rid": In(1),
        "rdata": In(config.bus_width),
        "rresp": In(2),
        "rlast": In(1),
        "rvalid": In(1),
        "rready": Out(1),
    }
    return {f"{prefix}_{name}": port for name, port in ports.items()}
