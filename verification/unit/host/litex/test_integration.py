"""A LiteX design with the core in it: what LiteX says of it, and the Verilog that comes out. Nothing is simulated."""

import re
from pathlib import Path
from typing import Any

import pytest
from litedram.modules import MT48LC16M16
from litedram.phy.model import SDRAMPHYModel
from litex.build.generic_platform import Pins
from litex.build.sim import SimPlatform
from litex.soc.integration.builder import Builder
from litex.soc.integration.soc_core import SoCCore
from litex.tools.litex_client import RemoteClient
from migen.genlib.io import CRG

from tailrace.hdl.top import Top
from tailrace.litex import Tailrace, add_tailrace
from tailrace.spec.config import CONFIGS, memory_port_names, parse_config
from tailrace.spec.errors import ConfigError

CLOCK, MEMORY, OFFSET = int(100e6), 1 << 26, 1 << 20


class Design(SoCCore):
    """Bus, SDRAM, and a processor or none."""

    def __init__(self, cpu_type: str | None = None, l2_cache_size: int = 0, sdram: bool = True) -> None:
        platform = SimPlatform("SIM", [("sys_clk", 0, Pins(1))])
        self.crg = CRG(platform.request("sys_clk"))
        SoCCore.__init__(self, platform, CLOCK, cpu_type=cpu_type, uart_name="stub", with_timer=False)
        if sdram:
            module = MT48LC16M16(CLOCK, "1:1")
            self.sdrphy = SDRAMPHYModel(module, data_width=32, clk_freq=CLOCK)
            self.add_sdram("sdram", phy=self.sdrphy, module=module, l2_cache_size=l2_cache_size)


@pytest.fixture
def verilog(tmp_path: Path) -> Path:
    """In place of the core's, which nothing here reads."""
    path = tmp_path / "tailrace.v"
    path.write_text("module tailrace_base; endmodule\n")
    return path


def built(soc: Design, folder: Path) -> tuple[RemoteClient, str]:
    """Elaborate a design: its csr.csv as LiteX's client reads it, and its Verilog."""
    builder = Builder(soc, output_dir=str(folder), compile_software=False, csr_csv=str(folder / "csr.csv"))
    builder.build(build=True, run=False)
    return RemoteClient(csr_csv=str(folder / "csr.csv")), (folder / "gateware" / "sim.v").read_text()


def instance(text: str, module: str) -> dict[str, str]:
    """What each port of an instance is joined to."""
    body = text[re.search(rf"^{module} {module}\(", text, re.MULTILINE).end() :]  # type: ignore[union-attr]
    return dict(re.findall(r"\.(\w+)\s*\((.*?)\),?$", body[: body.index(");\n")] + "\n", re.MULTILINE))


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> tuple[RemoteClient, str]:
    """Two cores, with half of the memory each, and a third that shares the second one's: nothing runs here."""
    folder = tmp_path_factory.mktemp("litex")
    soc = Design()
    for module in ("base", "wide", "kv260"):
        (folder / f"{module}.v").write_text(f"module tailrace_{module}; endmodule\n")
    core = add_tailrace(soc, verilog=folder / "base.v", memory_offset=OFFSET, memory_size=MEMORY // 2 - OFFSET)
    assert core is soc.tailrace
    add_tailrace(soc, "wide", name="second", verilog=folder / "wide.v", origin=0xA000_0000, memory_offset=MEMORY // 2)
    add_tailrace(soc, "kv260", name="third", verilog=folder / "kv260.v", origin=0xB000_0000, memory_offset=MEMORY // 2)
    assert {str(folder / "base.v"), str(folder / "wide.v")} <= {source[0] for source in soc.platform.sources}
    return built(soc, folder)


def test_where_everything_is(design: tuple[RemoteClient, str]) -> None:
    csr, _ = design
    assert (csr.mems.tailrace.base, csr.mems.tailrace.size, csr.mems.tailrace.type) == (0x9000_0000, 4096, "io")
    assert csr.mems.main_ram.size == MEMORY
    assert csr.constants.tailrace_memory_base == csr.mems.main_ram.base + OFFSET
    assert csr.constants.tailrace_memory_size == MEMORY // 2 - OFFSET
    assert csr.mems.second.base == 0xA000_0000
    assert csr.constants.second_memory_base == csr.mems.main_ram.base + MEMORY // 2
    assert csr.constants.second_memory_size == MEMORY // 2
    assert csr.regs.second_ev_pending.addr != csr.regs.tailrace_ev_pending.addr
    for register, mode in {"status": "ro", "pending": "rw", "enable": "rw"}.items():
        assert csr.regs.d[f"tailrace_ev_{register}"].mode == mode


@pytest.mark.parametrize("config", ["base", "wide", "kv260"])
def test_every_port_is_joined(design: tuple[RemoteClient, str], config: str) -> None:
    """And no input is left open: what the top level has, the instance has."""
    _, text = design
    ports = instance(text, f"tailrace_{config}")
    assert ports.keys() == set(Top(CONFIGS[config]).signature.members)
    assert all(ports.values())
    assert ports["ap_clk"].startswith("sys_clk")
    assert ports["ap_rst_n"] == "(~sys_rst)"
    # 12 of the bus' 32 bits of address.
    assert ports["s_axi_control_awaddr"].endswith("[11:0]")


def test_addresses_begin_at_the_offset(design: tuple[RemoteClient, str]) -> None:
    _, text = design
    for config, offset in (("base", OFFSET), ("kv260", MEMORY // 2)):
        ports = instance(text, f"tailrace_{config}")
        for name in memory_port_names(CONFIGS[config]):
            for channel in ("aw", "ar"):
                added = rf"{offset.bit_length()}'d{offset}"
                assert re.search(rf"= \({ports[f'{name}_{channel}addr']} \+ {added}\);", text)


def test_each_port_has_one_of_the_crossbar_s(verilog: Path) -> None:
    soc = Design()
    before = len(soc.sdram.crossbar.masters)
    add_tailrace(soc, "kv260", verilog=verilog)
    assert len(soc.sdram.crossbar.masters) == before + 4


@pytest.mark.parametrize("config", ["base", "wide,bus_width=256", "kv260"])
def test_the_module_alone(verilog: Path, config: str) -> None:
    """For designs with another memory: its interfaces are LiteX's."""
    core = Tailrace(SimPlatform("SIM", []), parse_config(config), verilog)
    assert [memory.data_width for memory in core.memories] == [core.config.bus_width] * core.config.channels
    assert (core.control.data_width, core.control.address_width) == (32, 32)


@pytest.mark.parametrize(
    ("design_options", "options", "message"),
    [
        ({"sdram": False}, {}, "the design has no SDRAM: call soc.add_sdram(...) first"),
        (
            {"l2_cache_size": 8192},
            {},
            "an L2 cache is in front of the SDRAM, and the co-processor is not: each would miss what the other has written. Call"
            " soc.add_sdram(..., l2_cache_size=0)",
        ),
        (
            {},
            {"memory_offset": 64},
            "memory_offset and memory_size must be multiples of 4096 within the 0x4000000 bytes of SDRAM, not 0x40 and 0x3ffffc0",
        ),
        (
            {},
            {"memory_offset": 4096, "memory_size": MEMORY},
            "memory_offset and memory_size must be multiples of 4096 within the 0x4000000 bytes of SDRAM, not 0x1000 and 0x4000000",
        ),
    ],
)
def test_what_is_refused(verilog: Path, design_options: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        add_tailrace(Design(**design_options), verilog=verilog, **options)
