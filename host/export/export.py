"""Write all files of an exported core."""

from collections.abc import Callable
from pathlib import Path

from tailrace.spec.config import Config, memory_port_names
from tailrace.spec.registers import ADDRESS_BITS, PAGE_BYTES, base_registers

from .constants import constants_header, run_header
from .folder import whole_folder
from .ip_xact import write_ip_xact
from .kernel import kernel_xml, package_script
from .naming import LICENCE, ExportedCore
from .registers import compile_registers, require_export_tools, system_rdl, write_c_header
from .templates import template
from .testbench import bench_files
from .verilog import kept_verilog

#: The file that every export has.
MARK = "tailrace.core"
_TOOLS = ("verilator", "yosys")


def export_core(config: Config, target: Path, *, replace: bool = False, report: Callable[[str], None] = print) -> ExportedCore:
    """Export a configuration.

    Parameters
    ----------
    config : Config
    target : Path
        Folder to write: complete at the end, or as it was.
    replace : bool
        Whether an earlier export there may be replaced.
    report : callable
        Takes a line on what is being done.

    Returns
    -------
    ExportedCore

    Raises
    ------
    TailraceError
        If there is something else at `target`.
    ToolError
        If a Python package is missing.
    OSError
        If the folder can't be written.
    """
    require_export_tools()
    core = ExportedCore(config)
    with whole_folder(target, MARK, replace) as folder:
        report("[1/4] decode steps for the testbench, on the golden model")
        # Only here, so that a missing package is not an error of the command line's.
        from .program import record_program

        program = record_program(config)
        report("[2/4] registers: SystemRDL, C header, IP-XACT")
        _write_registers(folder, core, dict(program.identification))
        report(f"[3/4] Verilog of {core.module} (half a minute the first time; of a wide bus, minutes)")
        _write(folder, f"rtl/{core.module}.v", kept_verilog(core).read_text(encoding="utf-8"))
        report("[4/4] testbench, FuseSoC and XRT")
        for name, text in bench_files(core, program).items():
            _write(folder, f"sim/{name}", text)
        _write_packaging(folder, core)
    return core


def _write(folder: Path, name: str, text: str, executable: bool = False) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if executable:
        # As readable as it is.
        path.chmod(path.stat().st_mode | (path.stat().st_mode & 0o444) >> 2)


def _write_registers(folder: Path, core: ExportedCore, constants: dict[int, int]) -> None:
    registers, software = folder / "registers", folder / "software"
    _write(folder, f"registers/{core.module}.rdl", system_rdl(core, constants))
    root = compile_registers(registers / f"{core.module}.rdl")
    write_ip_xact(root, registers / f"{core.module}.xml", core)
    _write(folder, f"software/{core.module}_constants.h", constants_header(core))
    write_c_header(root, software / f"{core.module}.h", core)
    _write(folder, f"software/{core.module}_run.h", run_header(core))


def _write_packaging(folder: Path, core: ExportedCore) -> None:
    names = {"MODULE": core.module, "VERSION": core.version, "CONFIG": core.config.name}
    _write(folder, MARK, template("fusesoc.core", HEADER=core.header("FuseSoC", "#").rstrip(), **names))
    waivers = template("waivers.vlt", HEADER=core.header("Waivers for Verilator", "//").rstrip(), **names)
    _write(folder, f"lint/{core.module}.vlt", waivers)
    _write(folder, "xrt/kernel.xml", kernel_xml(core))
    _write(folder, "xrt/package_kernel.tcl", package_script(core))
    for name in _TOOLS:
        _write(folder, f"tools/{name}", template(name), executable=True)
    readme = template(
        "README.md",
        LICENCE=LICENCE,
        COMMAND=core.command,
        CONTROL_BITS=ADDRESS_BITS,
        DATA_WIDTH=core.config.bus_width,
        ADDRESS_WIDTH=core.config.address_width,
        BURST_BEATS=core.config.burst_beats,
        READ_BEATS=core.config.read_fifo_beats,
        MEMORY_PORTS=", ".join(f"`{name}_*`" for name in memory_port_names(core.config)),
        STRIPES=_stripes(core.config),
        **names,
    )
    _write(folder, "README.md", readme)


def _stripes(config: Config) -> str:
    """What README.md says about where bytes lie behind several memory ports; nothing about one."""
    channels, size, beat = config.channels, config.bus_bytes, config.beat_bytes
    if channels == 1:
        return ""
    *others, last = (f"`{name}`" for name in base_registers(channels))
    return (
        f"Memory is striped over the ports: byte A, as commands count it, lies behind port A / {size} mod {channels}, at its"
        f" address\nA / {beat} * {size} + A mod {size} (whole divisions). Each port's addresses count from a base of its own,"
        f" {', '.join(others)} and {last}\n(of XRT's arguments one for each port). `LIMIT` counts the bytes of all, and is a"
        f" multiple of {channels * PAGE_BYTES}.\n\n"
    )
