"""Memory controllers: LiteDRAM cores, made by the generator of the ``litedram`` package.

A core has a clock and a reset, an AXI port for the co-processor, an AXI port for the host, the pads of the memory, and a
Wishbone port by which it is started.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tailrace.spec.errors import MissingPackage, ToolError

#: What LiteX itself takes for the ULX3S. Its rows and columns are those of each memory that the board was made with, and its
#: timing the most careful of them.
MODULE = "MT48LC16M16"
#: Bytes of that memory, which is 16 bits wide.
MODULE_BYTES = 2
#: Bits of the host's port.
HOST_WIDTH = 32

_GENERATOR = Path(__file__).with_name("litedram_generator.py")
_PORT = re.compile(r"^\s*(input|output|inout)\s+wire\s+(?:\[(\d+):0\])?\s*(\w+),?$", re.MULTILINE)


@dataclass(frozen=True)
class ControlWrite:
    """A write to the control port: `value` to the register at the byte address `address`, then `wait` cycles."""

    address: int
    value: int
    wait: int = 0


@dataclass(frozen=True)
class LiteDram:
    """A memory controller.

    Attributes
    ----------
    name : str
        Name of the Verilog module.
    verilog : Path
        The only file that it takes.
    ports : dict of str to (str, int)
        Direction (``input``, ``output``, ``inout``) and bits of each port.
    start : tuple of ControlWrite
        What brings the memory up and opens the AXI ports, once after reset.
    memory_bytes : int
    data_width : int
        Bits of the co-processor's port.
    simulated : bool
        Whether LiteDRAM's model of the memory is inside, and there are no pads.
    """

    name: str
    verilog: Path
    ports: dict[str, tuple[str, int]]
    start: tuple[ControlWrite, ...]
    memory_bytes: int
    data_width: int
    simulated: bool

    @property
    def black_box(self) -> str:
        """Verilog of the module without its contents, for tools that must know what it looks like."""
        ports = ", ".join(f"{direction} [{bits - 1}:0] {port}" for port, (direction, bits) in self.ports.items())
        return f"module {self.name}({ports});\nendmodule\n"


def generate(folder: Path, name: str, clock_hz: float, data_width: int, simulated: bool = False) -> LiteDram:
    """Make a memory controller for the SDRAM of the ULX3S.

    Parameters
    ----------
    folder : Path
        Where the generator's files go; it is made if it does not exist.
    name : str
        Name of the Verilog module.
    clock_hz : float
        The clock, which is the memory's clock as well.
    data_width : int
        Bits of the co-processor's AXI port.
    simulated : bool
        With LiteDRAM's model of the memory in place of the pads.

    Raises
    ------
    ToolError
        If LiteDRAM is not installed or fails.
    """
    for package in ("litedram", "litex", "migen"):
        if find_spec(package) is None:
            raise MissingPackage(package, "to make a memory controller", "board")
    folder.mkdir(parents=True, exist_ok=True)
    settings, note = folder / f"{name}.yml", folder / f"{name}_start.json"
    # YAML is a superset of JSON.
    settings.write_text(json.dumps(_settings(clock_hz, data_width), indent=1), encoding="utf-8")
    run = subprocess.run(
        [
            # Without -P, the generator's own imports would find this module in place of the package.
            *(sys.executable, "-P", str(_GENERATOR), note.name, settings.name, "--name", name),
            *("--output-dir", ".", "--no-compile-software", *(["--sim"] if simulated else [])),
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    verilog = folder / "gateware" / f"{name}.v"
    if run.returncode or not verilog.exists() or not note.exists():
        lines = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
        raise ToolError(f"LiteDRAM could not make {name!r}: {(lines or [f'exit code {run.returncode}'])[-1]}")
    text = verilog.read_text(encoding="utf-8")
    if not simulated:
        # LiteX forgets that the data pads go both ways.
        text, count = re.subn(r"^(\s*)input( +wire .*\bsdram_dq\b)", r"\1inout\2", text, count=1, flags=re.MULTILINE)
        if not count:
            raise ToolError(f"LiteDRAM made {name!r} without data pads: is it another version than this project was made with?")
        verilog.write_text(text, encoding="utf-8")
    known = json.loads(note.read_text(encoding="utf-8"))
    return LiteDram(
        name=name,
        verilog=verilog,
        ports=_ports(text, name),
        start=_start(known, json.loads((folder / "csr.json").read_text(encoding="utf-8"))),
        memory_bytes=known["memory_bytes"],
        data_width=data_width,
        simulated=simulated,
    )


def _settings(clock_hz: float, data_width: int) -> dict[str, Any]:
    return {
        "cpu": "None",
        "uart": "None",
        "device": "LFE5U-85F-6BG381C",
        "memtype": "SDR",
        "sdram_module": MODULE,
        "sdram_module_nb": MODULE_BYTES,
        "sdram_rank_nb": 1,
        "sdram_phy": "GENSDRPHY",
        "sys_clk_freq": clock_hz,
        "user_ports": {
            "core": {"type": "axi", "data_width": data_width, "id_width": 1},
            "host": {"type": "axi", "data_width": HOST_WIDTH, "id_width": 1},
        },
    }


def _ports(text: str, name: str) -> dict[str, tuple[str, int]]:
    header = text[text.index(f"module {name} (") :]
    header = header[: header.index(");")]
    return {port: (direction, int(high or 0) + 1) for direction, high, port in _PORT.findall(header)}


def _start(known: dict[str, Any], csr: dict[str, Any]) -> tuple[ControlWrite, ...]:
    addresses = {name: register["addr"] for name, register in csr["csr_registers"].items()}

    def write(register: str, value: int, wait: int = 0) -> ControlWrite:
        return ControlWrite(addresses[register], value, wait)

    writes = []
    for address, bank, control, value, wait in known["steps"]:
        writes += [write("sdram_dfii_pi0_address", address), write("sdram_dfii_pi0_baddress", bank)]
        if control:
            writes.append(write("sdram_dfii_control", value, wait))
        else:
            writes += [write("sdram_dfii_pi0_command", value), write("sdram_dfii_pi0_command_issue", 1, wait)]
    return (*writes, write("sdram_dfii_control", known["select"]), write("ddrctrl_init_done", 1))
