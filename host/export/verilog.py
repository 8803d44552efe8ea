"""The core's Verilog, as other people's tools take it."""

from dataclasses import astuple, replace
from pathlib import Path

from tailrace.sim.build import installed_version
from tailrace.sim.cache import cached, content_key
from tailrace.sim.progress import announced
from tailrace.sim.sources import module_parts

from .naming import ExportedCore


def core_verilog(core: ExportedCore) -> str:
    """Verilog-2005 of the core: one file, its modules prefixed with the core's name, without processes or attributes.

    Parameters
    ----------
    core : ExportedCore

    Returns
    -------
    str

    Raises
    ------
    ToolError
        If Amaranth or pyosys is not installed, or Yosys refuses the design.
    """
    from tailrace.sim.verilog import require_tools, to_verilog

    require_tools()
    from tailrace.hdl.top import Top

    text = to_verilog(Top(core.config), name=core.module, flatten=False)
    # Simulators want all modules to have one as soon as one has.
    return core.header("The decode co-processor, generated from Amaranth", "//") + "`timescale 1ns / 1ps\n" + text


def kept_verilog(core: ExportedCore) -> Path:
    """The same in a file of the cache, made when the gateware or the tools have changed.

    Parameters
    ----------
    core : ExportedCore

    Returns
    -------
    Path
        ``MODULE.v``.

    Raises
    ------
    ToolError
        If Amaranth or pyosys is not installed, or Yosys refuses the design.
    """
    name = f"{core.module}.v"

    def key() -> str:
        sources = module_parts("tailrace.hdl", "tailrace.spec", "tailrace.sim.verilog", __name__)
        versions = [installed_version(package) for package in ("amaranth", "pyosys")]
        numbers = repr(astuple(replace(core.config, name="")))
        return content_key([*sources, *versions, numbers, core.header("", ""), name])

    def make(folder: Path) -> None:
        with announced(f"elaborating {core.module}"):
            (folder / name).write_text(core_verilog(core), encoding="utf-8")

    return cached("export", key, make, what=f"the exported Verilog of {core.module}") / name
