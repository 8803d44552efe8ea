"""The co-processor as a LiteX module."""

from pathlib import Path
from typing import Any

from tailrace.spec.config import CONFIGS, Config, memory_port_names
from tailrace.spec.registers import ADDRESS_BITS

from ..export.naming import ExportedCore
from ..export.verilog import kept_verilog

try:
    from litex.gen import LiteXModule
    from litex.soc.interconnect import axi
    from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel
    from migen import ClockSignal, Instance, ResetSignal, Signal
except ImportError as error:
    from tailrace.spec.errors import MissingPackage

    raise MissingPackage("litex", "to put the core into a LiteX design", "board") from error

#: Bits of addresses on the bus of a LiteX design, which its bridges want everywhere.
_BUS_ADDRESS_BITS = 32
#: Signals of each channel by the core's names; the core drives those of the second list.
_CONTROL = {
    "aw": ("addr prot valid", "ready"),
    "w": ("data strb valid", "ready"),
    "b": ("ready", "resp valid"),
    "ar": ("addr prot valid", "ready"),
    "r": ("ready", "data resp valid"),
}
_MEMORY = {
    "aw": ("ready", "id addr len size burst lock cache prot qos valid"),
    "w": ("ready", "data strb last valid"),
    "b": ("id resp valid", "ready"),
    "ar": ("ready", "id addr len size burst lock cache prot qos valid"),
    "r": ("id data resp last valid", "ready"),
}


class Tailrace(LiteXModule):
    """The decode co-processor.

    Parameters
    ----------
    platform : litex.build.generic_platform.GenericPlatform
        Gets the Verilog as a source.
    config : Config
        What the core is built with.
    verilog : Path or None
        The file ``rtl/tailrace_NAME.v`` of an export of this configuration; None: it is made now, or taken from the cache.
    memory_offset : int
        Added to the addresses of the core, so that its address 0 is there in the memory behind `memories`; a multiple of 4096.

    Attributes
    ----------
    control : AXILiteInterface
        Slave: the registers, 4 KiB. Data has 32 bits.
    memories : tuple of AXIInterface
        Masters: the memory ports, ``config.channels`` of ``config.bus_width`` bits.
    ev : EventManager
        With the source ``done``: the interrupt, a level that is held until it is taken back in ``ISR``.
    """

    def __init__(
        self, platform: Any, config: Config = CONFIGS["base"], verilog: Path | None = None, memory_offset: int = 0
    ) -> None:
        core = ExportedCore(config)
        self.config = config
        self.control = axi.AXILiteInterface(data_width=32, address_width=_BUS_ADDRESS_BITS)
        self.memories = tuple(
            axi.AXIInterface(data_width=config.bus_width, address_width=config.address_width, id_width=1)
            for _ in range(config.channels)
        )
        self.ev = EventManager()
        self.ev.done = EventSourceLevel(description="A run of the co-processor has ended.")
        self.ev.finalize()

        ports: dict[str, Any] = {
            "i_ap_clk": ClockSignal("sys"),
            "i_ap_rst_n": ~ResetSignal("sys"),
            "o_interrupt": self.ev.done.trigger,
        }
        memories = tuple(zip(memory_port_names(config), self.memories, strict=True))
        for prefix, interface, channels in (
            ("s_axi_control", self.control, _CONTROL),
            *((name, memory, _MEMORY) for name, memory in memories),
        ):
            for channel, (inputs, outputs) in channels.items():
                signals = getattr(interface, channel)
                ports |= {f"i_{prefix}_{channel}{name}": getattr(signals, name, 0) for name in inputs.split()}
                # An AXI interface of LiteX has all of them but the odd one that nobody there reads.
                ports |= {f"o_{prefix}_{channel}{name}": getattr(signals, name, Signal(4)) for name in outputs.split()}
        for channel in ("aw", "ar"):
            ports[f"i_s_axi_control_{channel}addr"] = getattr(self.control, channel).addr[:ADDRESS_BITS]
            for name, memory in memories:
                address = Signal(config.address_width)
                ports[f"o_{name}_{channel}addr"] = address
                self.comb += getattr(memory, channel).addr.eq(address + memory_offset)
        self.specials += Instance(core.module, **ports)
        platform.add_source(str(kept_verilog(core) if verilog is None else verilog))
