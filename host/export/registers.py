"""The register map in other people's formats: SystemRDL, and from it a C header."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tailrace.spec.errors import ErrorCode, MissingPackage, ToolError
from tailrace.spec.registers import (
    AP_DONE,
    AP_IDLE,
    AP_READY,
    AP_START,
    CHANNEL_BASES,
    CONTROL,
    COUNTER_REGISTERS,
    ERROR,
    IDENTIFICATION,
    Register,
)

from .naming import ExportedCore


@dataclass(frozen=True)
class Field:
    """A bit of a register.

    Attributes
    ----------
    name : str
    mask : int
    properties : str
        Its SystemRDL properties.
    doc : str
    reset : int
    """

    name: str
    mask: int
    properties: str
    doc: str
    reset: int = 0


_SET_BY_HARDWARE = "hw = w; hwset;"
#: Registers that have more than one field, or one that is narrower than the register.
FIELDS: dict[str, tuple[Field, ...]] = {
    "AP_CTRL": (
        Field("start", AP_START, "sw = rw; onwrite = woset; hw = rw; hwclr;", "write 1 to run the queue; 1 until it is done"),
        Field("done", AP_DONE, f"sw = r; onread = rclr; {_SET_BY_HARDWARE}", "a run has finished; cleared by reading"),
        Field("idle", AP_IDLE, "sw = r; hw = w;", "nothing runs", reset=1),
        Field("ready", AP_READY, f"sw = r; onread = rclr; {_SET_BY_HARDWARE}", "as done"),
    ),
    "GIE": (Field("enable", 1, "sw = rw; hw = r;", "the interrupt output is enabled"),),
    "IER": (
        Field("done", 1, "sw = rw; hw = r;", "done raises the interrupt"),
        Field("ready", 2, "sw = rw; hw = r;", "ready raises the interrupt"),
    ),
    "ISR": (
        Field("done", 1, "sw = rw; onwrite = wot; hw = rw; hwset;", "done is pending; writing 1 toggles it"),
        Field("ready", 2, "sw = rw; onwrite = wot; hw = rw; hwset;", "ready is pending; writing 1 toggles it"),
    ),
}


def system_rdl(core: ExportedCore, constants: Mapping[int, int]) -> str:
    """The register map in SystemRDL 2.0.

    Parameters
    ----------
    core : ExportedCore
    constants : mapping of int to int
        Values, by offset, of the registers that tell the build.

    Returns
    -------
    str
    """
    bases = [register for register in CHANNEL_BASES if register.channels <= core.config.channels]
    titles: tuple[tuple[str, Sequence[Register]], ...] = (
        ("Control", CONTROL),
        *((("Memory behind the further ports", bases),) if bases else ()),
        ("What the build is", IDENTIFICATION),
        ("Why the last run stopped", ERROR),
        ("Performance counters", COUNTER_REGISTERS),
    )
    codes = "".join(f'        {code.name} = {code.value} {{ desc = "{code.name.lower()}"; }};\n' for code in ErrorCode)
    parts = [f"    // {title}\n\n" + "\n".join(_register(r, constants) for r in group) for title, group in titles]
    return (
        core.header("Registers behind s_axi_control, in SystemRDL 2.0", "//")
        + f'\naddrmap {core.module} {{\n    name = "{core.module}";\n    desc = "Registers of the decode co-processor";\n'
        + "    default regwidth = 32;\n    default accesswidth = 32;\n    lsb0;\n\n"
        + f"    enum error_code {{\n{codes}    }};\n\n"
        + "\n".join(parts)
        + "};\n"
    )


def _register(register: Register, constants: Mapping[int, int]) -> str:
    lines = [f'        desc = "{_text(register.doc)}";']
    for field in FIELDS.get(register.name, (_whole(register, constants),)):
        high, low = field.mask.bit_length() - 1, (field.mask & -field.mask).bit_length() - 1
        lines.append(
            f'        field {{ {field.properties} desc = "{_text(field.doc)}"; }}'
            f" {field.name}[{high}:{low}] = {field.reset:#x};"
        )
    body = "\n".join(lines)
    return f"    reg {{\n{body}\n    }} {register.name} @ {register.offset:#05x};\n"


def _whole(register: Register, constants: Mapping[int, int]) -> Field:
    """The only field of a register."""
    mask = (1 << 32) - 1
    if register.offset in constants:
        return Field("value", mask, "sw = r; hw = na;", register.doc, constants[register.offset])
    if register.access == "rw":
        return Field("value", mask, "sw = rw; hw = r;", register.doc, register.reset)
    encode = " encode = error_code;" if register.name == "ERROR_CODE" else ""
    return Field("value", mask, f"sw = r; hw = w;{encode}", register.doc)


def _text(text: str) -> str:
    """Text as a SystemRDL string."""
    return text.replace("``", "").replace("\\", "\\\\").replace('"', '\\"')


def require_export_tools() -> None:
    """Check that what compiles and converts SystemRDL is installed.

    Raises
    ------
    ToolError
        If it is not. The message says what to do.
    """
    packages = {"systemrdl": "systemrdl-compiler", "peakrdl_cheader": "peakrdl-cheader", "peakrdl_ipxact": "peakrdl-ipxact"}
    for module, package in packages.items():
        if find_spec(module) is None:
            raise MissingPackage(package, "to export", "export")


def compile_registers(path: Path) -> Any:
    """Compile a SystemRDL file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    systemrdl.node.RootNode

    Raises
    ------
    ToolError
        If the compiler refuses it.
    """
    require_export_tools()
    from systemrdl import RDLCompileError, RDLCompiler

    compiler = RDLCompiler()
    try:
        compiler.compile_file(str(path))
        return compiler.elaborate()
    except RDLCompileError as error:
        raise ToolError(f"the SystemRDL compiler refuses {path}: {error}; please report this") from None


def write_c_header(root: Any, path: Path, core: ExportedCore) -> None:
    """Write the register map as a C structure with masks of its fields.

    Parameters
    ----------
    root : systemrdl.node.RootNode
    path : Path
    core : ExportedCore
    """
    from peakrdl_cheader.c_standards import CStandard
    from peakrdl_cheader.exporter import CHeaderExporter

    # The oldest C that the other headers need: C99.
    CHeaderExporter().export(root, str(path), std=CStandard.gnu99)
    header = core.header("Registers behind s_axi_control, in C", "//")
    path.write_text(header + path.read_text(encoding="utf-8"), encoding="utf-8")
