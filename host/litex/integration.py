"""Adds the co-processor to a LiteX design, and says in its ``csr.csv`` where everything is."""

from pathlib import Path
from typing import Any

from litedram.frontend.axi import LiteDRAMAXI2Native
from litex.soc.integration.soc import SoCRegion

from tailrace.spec.config import Config, parse_config
from tailrace.spec.errors import ConfigError
from tailrace.spec.registers import ADDRESS_BITS, PAGE_BYTES

from .core import Tailrace

#: Where the registers are if nobody says so and there is no CPU: LiteX would choose address 0, which it gives to its own.
_ORIGIN = 0x9000_0000
#: Beats that may be on their way through LiteDRAM: with fewer than its latency in cycles, reads would wait.
_BUFFER_BEATS = 64


def add_tailrace(
    soc: Any,
    config: str | Config = "base",
    *,
    name: str = "tailrace",
    verilog: Path | None = None,
    origin: int | None = None,
    memory_offset: int = 0,
    memory_size: int | None = None,
) -> Tailrace:
    """Add the co-processor to a design that has an SDRAM (``soc.add_sdram``), which it shares with the bus.

    The registers become a region of the bus called `name`. Each memory port of the core has a port of LiteDRAM's crossbar; all
    of them reach the same part of the memory, and the driver deals it out to the core's channels. The interrupt is the event
    ``done`` of ``soc.NAME.ev``, and one of the CPU's if there is one. The constants ``NAME_MEMORY_BASE`` and
    ``NAME_MEMORY_SIZE`` in ``csr.csv`` and ``generated/soc.h`` say which part of the memory it uses.

    Parameters
    ----------
    soc : litex.soc.integration.soc.LiteXSoC
    config : str or Config
        What the core is built with, as in ``base,bus_width=256``.
    name : str
        Of the module, the region and the constants.
    verilog : Path or None
        The file ``rtl/tailrace_NAME.v`` of an export of this configuration; None: it is made now, or taken from the cache.
    origin : int or None
        Bus address of the registers; None: what ``soc.mem_map`` says, or 0x90000000 without a CPU, or what LiteX chooses.
    memory_offset : int
        Byte of the SDRAM at which the device's address 0 lies, a multiple of 4096. A CPU's software takes memory from the
        beginning: leave room for it.
    memory_size : int or None
        Bytes of SDRAM that the device may use; None: from there to the end.

    Returns
    -------
    Tailrace
        Also found as ``soc.NAME``.

    Raises
    ------
    ConfigError
        If the design has no SDRAM, an L2 cache in front of it, or less memory than this asks for.
    ToolError
        If the Verilog has to be made, and a tool for that is missing.
    """
    chosen = parse_config(config) if isinstance(config, str) else config
    region = soc.bus.regions.get("main_ram")
    if getattr(soc, "sdram", None) is None or region is None:
        raise ConfigError("the design has no SDRAM: call soc.add_sdram(...) first")
    if getattr(soc, "l2_cache", None) is not None:
        raise ConfigError(
            "an L2 cache is in front of the SDRAM, and the co-processor is not: each would miss what the other has written."
            " Call soc.add_sdram(..., l2_cache_size=0)"
        )
    size = region.size - memory_offset if memory_size is None else memory_size
    if memory_offset < 0 or size <= 0 or memory_offset % PAGE_BYTES or size % PAGE_BYTES or memory_offset + size > region.size:
        raise ConfigError(
            f"memory_offset and memory_size must be multiples of {PAGE_BYTES} within the {region.size:#x} bytes of SDRAM, not"
            f" {memory_offset:#x} and {size:#x}"
        )
    core = Tailrace(soc.platform, chosen, verilog, memory_offset)
    soc.add_module(name=name, module=core)
    place = soc.mem_map.get(name, _ORIGIN if soc.cpu_type is None else None) if origin is None else origin
    soc.bus.add_slave(name, core.control, SoCRegion(origin=place, size=1 << ADDRESS_BITS, cached=False))
    for number, memory in enumerate(core.memories):
        port = soc.sdram.crossbar.get_port(mode="both", data_width=chosen.bus_width)
        soc.add_module(
            name=f"{name}_port" if chosen.channels == 1 else f"{name}_port_{number}",
            module=LiteDRAMAXI2Native(memory, port, w_buffer_depth=_BUFFER_BEATS, r_buffer_depth=_BUFFER_BEATS),
        )
    if soc.irq.enabled:
        soc.irq.add(name, use_loc_if_exists=True)
    soc.add_constant(f"{name}_memory_base", region.origin + memory_offset)
    soc.add_constant(f"{name}_memory_size", size)
    return core
