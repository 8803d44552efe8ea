"""Verilog of a component, for every tool that does not speak Amaranth."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tailrace.spec.errors import MissingPackage, ToolError

from .run_tool import Listener, run_tool

#: Reads RTLIL, runs the passes it is told to, writes Verilog. It has a process of its own: Yosys writes to standard output
#: whatever one asks of it, ends the process on an error, and makes every library that is loaded after it share its symbols.
_YOSYS = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.argv[1:]:
    libyosys.run_pass(command, design)
"""


#: Tidies the processes that Amaranth writes, and leaves them as they are.
_KEEP_PROCESSES = "proc_prune; proc_clean; proc_rmdead; proc_init; proc_arst"


def to_verilog(
    component: Any,
    *,
    name: str,
    ports: Sequence[Any] | None = None,
    flatten: bool = True,
    processes: bool = False,
    black_boxes: str = "",
) -> str:
    """Convert an Amaranth component to Verilog.

    Amaranth writes RTLIL itself; Yosys (the ``pyosys`` package, native code) turns it into Verilog. That is ten times faster
    than Amaranth's own way to Verilog, which runs Yosys as WebAssembly.

    Parameters
    ----------
    component : Elaboratable
        What to convert. The ports of a `wiring.Component` are found in its signature.
    name : str
        Name of the top module.
    ports : sequence of Value, optional
        The ports, for an elaboratable that is not a `wiring.Component`.
    flatten : bool
        One module; otherwise the hierarchy is kept, which waveforms show best.
    processes : bool
        Amaranth's ``If`` and ``Switch`` stay conditions in ``always`` blocks, which Verilator simulates 14 % faster than the
        multiplexers that they become otherwise.
    black_boxes : str
        Verilog of modules, without their contents, that the component instantiates and that come from elsewhere.

    Returns
    -------
    str
        Verilog-2005, without attributes.

    Raises
    ------
    ToolError
        If Amaranth or pyosys is not installed, or Yosys refuses the design.
    """
    require_tools()
    from amaranth.back import rtlil

    text = rtlil.convert(component, name=name, ports=ports)
    with TemporaryDirectory(prefix="tailrace-") as folder:
        source, target = Path(folder, "design.il"), Path(folder, "design.v")
        source.write_text(text, encoding="utf-8")
        Path(folder, "black_boxes.v").write_text(black_boxes, encoding="utf-8")
        run_yosys(
            Path(folder),
            name,
            "read_verilog -lib black_boxes.v",
            "read_rtlil design.il",
            *_passes(name, flatten, processes),
            "write_verilog -noattr design.v",
        )
        return target.read_text(encoding="utf-8")


def _passes(name: str, flatten: bool, processes: bool) -> list[str]:
    if not processes:
        return [f"prep {'-flatten ' if flatten else ''}-top {name}"]
    return [f"hierarchy -check -top {name}", _KEEP_PROCESSES, *(["flatten"] if flatten else []), "memory_collect", "opt_clean"]


def run_yosys(folder: Path, name: str, *commands: str, listen: Listener | None = None) -> None:
    """Run Yosys commands on a design.

    Parameters
    ----------
    folder : Path
        Where the commands find and leave their files.
    name : str
        What the design is called, for messages.
    *commands : str
    listen : callable, optional
        Gets each line that Yosys prints.

    Raises
    ------
    ToolError
        If Yosys refuses the design.
    """
    code, lines = run_tool([sys.executable, "-c", _YOSYS, *commands], folder, listen)
    if code:
        lines = [line for line in lines if line.strip()]
        reasons = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines[-1:]
        raise ToolError(f"Yosys could not work on {name!r}: {(reasons or [f'exit code {code}'])[0]}")


def require_tools() -> None:
    """Check that Amaranth and pyosys are installed.

    Raises
    ------
    ToolError
        If one is not. The message says what to do.
    """
    for package in ("amaranth", "pyosys"):
        if find_spec(package) is None:
            raise MissingPackage(package, "to make Verilog", "sim")
