"""The netlist that synthesis makes of the gateware, simulated: what goes to place and route, cell by cell.

Lattice's carry, multiplexers, registers and distributed RAM behave as the models say that Yosys brings along; block RAM and
multipliers, of which Yosys knows the ports only, and LUTs as ``cells/ecp5.v`` says.
"""

import re
import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tailrace.sim.build import TOP, build_library, installed_version
from tailrace.sim.cache import cached, content_key
from tailrace.sim.progress import announced
from tailrace.spec.config import Config
from tailrace.spec.errors import MissingPackage, ToolError

_CELLS = Path(__file__).parent / "cells" / "ecp5.v"
#: Yosys' models, within its folder of shared files.
_MODELS = ("lattice/common_sim.vh", "lattice/ccu2c_sim.vh")
_NETLIST = "netlist.v"
#: What makes a netlist one that Verilator takes.
_PASSES = (
    "delete t:$scopeinfo",
    # Names are as long as the paths of signals through the netlist.
    "rename -hide w:* c:*",
    # Otherwise bits of one signal that depend on each other look like loops.
    "splitnets",
)
_MODULE = re.compile(r"^module (\w+)\b.*?^endmodule", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(r"^  (\w+) (?:#\(|\w+ \()", re.MULTILINE)


def build_netlist(config: Config) -> Path:
    """Build the simulation of a configuration's netlist for the ECP5, or find it in the cache. Takes minutes.

    Parameters
    ----------
    config : Config

    Returns
    -------
    Path
        The shared object: ``VerilatedDevice(config, ..., library=build_netlist(config))``.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    from tailrace.sim.verilog import require_tools

    require_tools()
    from tailrace.hdl.top import Top

    what = f"the netlist of configuration {config.name}"
    # Verilator's data-flow optimisation takes long on a netlist and finds nothing.
    return build_library(netlist_verilog(Top(config), what), what, channels=config.channels, options=("-fno-dfg",), brief=True)


def netlist_verilog(component: Any, what: str) -> str:
    """Verilog of a component's netlist with the models of its cells, from the cache if the design has not changed.

    Parameters
    ----------
    component : Elaboratable
    what : str
        What it is, for the lines on standard error.

    Returns
    -------
    str
        The top module is called `tailrace.sim.build.TOP`; its ports are the component's, with ``clk`` and ``rst`` if it uses
        them.

    Raises
    ------
    ToolError
        If a tool is missing or fails, or a cell has no model.
    """
    from .families import FAMILIES, RULES
    from .synthesis import TOP as SYNTHESISED
    from .synthesis import read_design, synthesise, write_design

    family = FAMILIES["ecp5"]
    with TemporaryDirectory(prefix="tailrace-") as text:
        folder = Path(text)
        write_design(component, folder)
        key = content_key(
            [read_design(folder), *RULES.values(), *family.before, *family.synthesis, *_PASSES, installed_version("pyosys")]
        )

        def make(entry: Path) -> None:
            with announced(f"synthesis of {what}"):
                synthesise(folder, family)
                _write_verilog(folder, SYNTHESISED)
            shutil.move(folder / _NETLIST, entry / _NETLIST)

        netlist = (cached("netlist", key, make, what=f"the netlist of {what}") / _NETLIST).read_text(encoding="utf-8")
    return "\n".join([netlist, *_models(set(_INSTANCE.findall(netlist)))])


def _write_verilog(folder: Path, top: str) -> None:
    from tailrace.sim.verilog import run_yosys

    from .synthesis import NETLIST

    run_yosys(folder, top, f"read_json {NETLIST}", *_PASSES, f"rename {top} {TOP}", f"write_verilog -noattr {_NETLIST}")


def _models(kinds: Iterable[str]) -> list[str]:
    """Modules for kinds of cells, and what they are made of."""
    spec = find_spec("pyosys")
    if spec is None or not spec.origin:
        raise MissingPackage("pyosys", "for its models of cells", "sim")
    shared = Path(spec.origin).parent / "share"
    texts = [(shared / name).read_text(encoding="utf-8") for name in _MODELS] + [_CELLS.read_text(encoding="utf-8")]
    modules = {match[1]: match[0] for text in texts for match in _MODULE.finditer(text)}
    # A carry cell is made of LUTs.
    wanted = {*kinds, "LUT4", "LUT2"}
    missing = sorted(set(kinds) - modules.keys())
    if missing:
        raise ToolError(f"there is no model of the cells {', '.join(missing)}: add one to {_CELLS.name}")
    return [text for name, text in modules.items() if name in wanted]
