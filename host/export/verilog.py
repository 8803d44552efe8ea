"""The core's Verilog, as other people's tools take it."""

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
