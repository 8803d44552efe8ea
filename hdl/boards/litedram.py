"""Memory controllers: LiteDRAM cores, made by the generator of the ``litedram`` package.

A core has a clock and a reset, one or two AXI ports for the co-processor, one for the host, the pads of the memory, and a
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

from .dram import HOST_WIDTH, Dram

#: The ports of a controller that makes the system's clock: the board's clock and reset, and the system's.
CLOCKS = ("clk", "rst", "user_clk", "user_rst")

_GENERATOR = "tailrace.hdl.boards.litedram_generator"
_PORT = re.compile(r"^\s*(input|output|inout)\s+wire\s+(?:\[(\d+):0\])?\s*(\w+),?$", re.MULTILINE)
#: The ports of pads that go both ways, of which LiteX forgets that they do.
_BOTH_WAYS = re.compile(r"^(\s*)input( +wire .*\b(?:sdram_dq|ddram_dq|ddram_dqs_p)\b)", re.MULTILINE)


@dataclass(frozen=True)
class ControlWrite:
    """A write to the control port: `value` to the register at the byte address `address`, then `wait` cycles."""

    address: int
    value: int
    wait: int = 0


@dataclass(frozen=True)
class ReadPhases:
    """How a DDR3's reads are aligned, which has to be found out on each board: each byte lane for itself.

    Attributes
    ----------
    lanes : int
    delays : int
        Positions of the window in which the memory's strobe (DQS) is looked for.
    slips : int
        Transfers by which the data are shifted to the beginning of a burst.
    select : int
        Byte address of the register with the lanes that the others mean, which are held still while they are in it.
    reset_delay, next_delay, reset_slip, next_slip : int
        Byte addresses of registers that do what they are called when they are written.
    """

    lanes: int
    delays: int
    slips: int
    select: int
    reset_delay: int
    next_delay: int
    reset_slip: int
    next_slip: int


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
    memory_bytes, row_bytes : int
        Of the memory, and of a row of one of its banks.
    data_width, host_width : int
        Bits of each of the co-processor's ports and of the host's.
    core_ports : tuple of str
        The co-processor's ports: one, or two for rows in turn.
    simulated : bool
        Whether LiteDRAM's model of the memory is inside, and there are no pads.
    read_phases : ReadPhases or None
        None: reads need no levelling.
    own_clock : bool
        Whether the controller makes the system's clock.
    """

    name: str
    verilog: Path
    ports: dict[str, tuple[str, int]]
    start: tuple[ControlWrite, ...]
    memory_bytes: int
    row_bytes: int
    data_width: int
    simulated: bool
    core_ports: tuple[str, ...] = ("core",)
    host_width: int = HOST_WIDTH
    read_phases: ReadPhases | None = None
    own_clock: bool = False

    @property
    def board_ports(self) -> list[str]:
        """Ports that only a board's top level can join: the pads, and the clocks if they are the controller's own."""
        pads = [name for name in self.ports if name.startswith(("sdram_", "ddram_"))]
        return sorted([*pads, *(CLOCKS if self.own_clock else ())])

    @property
    def black_box(self) -> str:
        """Verilog of the module without its contents, for tools that must know what it looks like."""
        ports = ", ".join(f"{direction} [{bits - 1}:0] {port}" for port, (direction, bits) in self.ports.items())
        return f"module {self.name}({ports});\nendmodule\n"


def generate(folder: Path, name: str, dram: Dram, clock_hz: float, data_width: int, simulated: bool = False) -> LiteDram:
    """Make a memory controller.

    Parameters
    ----------
    folder : Path
        Where the generator's files go; it is made if it does not exist.
    name : str
        Name of the Verilog module.
    dram : Dram
    clock_hz : float
        The clock of the ports.
    data_width : int
        Bits of each of the co-processor's AXI ports.
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
    settings.write_text(json.dumps(dram.settings(clock_hz, data_width), indent=1), encoding="utf-8")
    run = subprocess.run(
        [
            # Without -P, the generator's own imports would find what lies in the folder.
            *(sys.executable, "-P", "-m", _GENERATOR, note.name, settings.name, "--name", name),
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
        text, count = _BOTH_WAYS.subn(r"\1inout\2", text)
        if not count:
            raise ToolError(f"LiteDRAM made {name!r} without data pads: is it another version than this project was made with?")
        verilog.write_text(text, encoding="utf-8")
    known = json.loads(note.read_text(encoding="utf-8"))
    registers = json.loads((folder / "csr.json").read_text(encoding="utf-8"))["csr_registers"]
    addresses = {register: found["addr"] for register, found in registers.items()}
    return LiteDram(
        name=name,
        verilog=verilog,
        ports={port: shape for port, shape in _ports(text, name).items() if port not in dram.unwired},
        start=_start(known, addresses),
        memory_bytes=known["memory_bytes"],
        row_bytes=known["row_bytes"],
        core_ports=dram.core_ports,
        data_width=data_width,
        simulated=simulated,
        host_width=dram.host_width,
        read_phases=_read_phases(known, addresses, dram.lanes),
        own_clock=dram.oscillator_hz is not None and not simulated,
    )


def _ports(text: str, name: str) -> dict[str, tuple[str, int]]:
    header = text[text.index(f"module {name} (") :]
    header = header[: header.index(");")]
    return {port: (direction, int(high or 0) + 1) for direction, high, port in _PORT.findall(header)}


def _start(known: dict[str, Any], addresses: dict[str, int]) -> tuple[ControlWrite, ...]:
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


def _read_phases(known: dict[str, Any], addresses: dict[str, int], lanes: int) -> ReadPhases | None:
    if not known["delays"]:
        return None
    return ReadPhases(
        lanes=lanes,
        delays=known["delays"],
        slips=known["slips"],
        select=addresses["ddrphy_dly_sel"],
        reset_delay=addresses["ddrphy_rdly_dq_rst"],
        next_delay=addresses["ddrphy_rdly_dq_inc"],
        reset_slip=addresses["ddrphy_rdly_dq_bitslip_rst"],
        next_slip=addresses["ddrphy_rdly_dq_bitslip"],
    )
