#!/usr/bin/env python3
"""A LiteX design with the co-processor, in LiteX's own simulation: bus, SDRAM with LiteDRAM, and a UART bridge to the host.

    ./litex_sim.py --with-tailrace                 # generate the design, compile it with Verilator, and let it run
    litex_server --uart --uart-port socket://localhost:2430
    tailrace run shakespeare -p "ROMEO:" -n 4 --device litex:build/litex_sim/csr.csv,patience=60

There is no CPU: the host is the master of the bus, through the bridge. On a board the same lines are in a target of
litex-boards, with the board's PHYs in place of the models.
"""

import argparse
import os
from pathlib import Path

from litedram import modules as sdram_modules
from litedram.phy.model import SDRAMPHYModel, sdram_module_nphases
from litex.build.generic_platform import Pins, Subsignal
from litex.build.sim import SimPlatform
from litex.build.sim.config import SimConfig
from litex.build.sim.verilator import verilator_build_argdict, verilator_build_args
from litex.soc.cores.uart import RS232PHYModel, UARTBone
from litex.soc.integration.builder import Builder
from litex.soc.integration.soc_core import SoCCore
from migen.genlib.io import CRG

from tailrace.litex import add_tailrace
from tailrace.sim.toolchain import find_verilator

CLOCK = int(100e6)
_IO = [
    ("sys_clk", 0, Pins(1)),
    (
        "serial", 0,
        Subsignal("source_valid", Pins(1)), Subsignal("source_ready", Pins(1)), Subsignal("source_data", Pins(8)),
        Subsignal("sink_valid", Pins(1)), Subsignal("sink_ready", Pins(1)), Subsignal("sink_data", Pins(8)),
    ),
]  # fmt: skip


class SimSoC(SoCCore):
    """Bus, SDRAM, a UART bridge, and the co-processor if it is asked for."""

    def __init__(
        self,
        sdram_module: str = "MT48LC16M16",
        sdram_data_width: int = 32,
        with_tailrace: bool = False,
        tailrace_config: str = "base",
        tailrace_verilog: Path | None = None,
    ) -> None:
        platform = SimPlatform("SIM", _IO)
        self.crg = CRG(platform.request("sys_clk"))
        SoCCore.__init__(
            self, platform, CLOCK, cpu_type=None, uart_name="stub", with_timer=False, ident="Tailrace in LiteX's simulation"
        )
        bridge = UARTBone(RS232PHYModel(platform.request("serial")), CLOCK, address_width=self.bus.address_width)
        self.add_module(name="uartbone", module=bridge)
        self.bus.add_master(name="uartbone", master=bridge.wishbone)
        kind = getattr(sdram_modules, sdram_module)
        module = kind(CLOCK, f"1:{sdram_module_nphases[kind.memtype]}")
        self.sdrphy = SDRAMPHYModel(module, data_width=sdram_data_width, clk_freq=CLOCK)
        # No L2 cache: the co-processor has a port of its own, and would not see what lies in the cache.
        self.add_sdram("sdram", phy=self.sdrphy, module=module, l2_cache_size=0)
        if with_tailrace:
            add_tailrace(self, tailrace_config, verilog=tailrace_verilog)


def main() -> None:
    """Build the design, compile it and let it run until it is interrupted."""
    parser = argparse.ArgumentParser(description="LiteX simulation of a design with Tailrace.")
    parser.add_argument("--with-tailrace", action="store_true", help="Add the co-processor.")
    parser.add_argument("--tailrace-config", default="base", help="Configuration of the core, as in base,bus_width=256.")
    parser.add_argument("--tailrace-verilog", type=Path, help="rtl/*.v of an export of it (default: made now).")
    parser.add_argument("--sdram-module", default="MT48LC16M16", help="Memory chip, a class of litedram.modules.")
    parser.add_argument("--sdram-data-width", default=32, type=int, help="Bits of the memory's bus.")
    parser.add_argument("--uart-tcp-port", default=2430, type=int, help="TCP port of the bridge.")
    parser.add_argument("--output-dir", default="build/litex_sim", type=Path, help="Where everything is written.")
    parser.add_argument("--no-run", action="store_true", help="Generate the design, and neither compile nor run it.")
    verilator_build_args(parser)
    # Without a number make would start all of them at once.
    parser.set_defaults(jobs=os.cpu_count())
    args = parser.parse_args()
    soc = SimSoC(
        args.sdram_module, args.sdram_data_width, args.with_tailrace, args.tailrace_config,
        args.tailrace_verilog and args.tailrace_verilog.absolute(),
    )  # fmt: skip
    config = SimConfig()
    config.add_clocker("sys_clk", freq_hz=CLOCK)
    config.add_module("serial2tcp", ("serial", 0), args={"port": args.uart_tcp_port})
    folder = args.output_dir
    builder = Builder(
        soc, output_dir=str(folder), compile_software=False, csr_csv=str(folder / "csr.csv"), csr_json=str(folder / "csr.json")
    )
    if not args.no_run:
        verilator = find_verilator()
        os.environ["VERILATOR_ROOT"] = str(verilator.root)
        os.environ["PATH"] = f"{verilator.command.parent}{os.pathsep}{os.environ['PATH']}"
    builder.build(sim_config=config, interactive=False, run=not args.no_run, **verilator_build_argdict(args))


if __name__ == "__main__":
    main()
