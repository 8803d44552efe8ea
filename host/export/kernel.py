"""The files that make an XRT RTL kernel of the core, after UG1393."""

from tailrace.spec.config import memory_port_names
from tailrace.spec.registers import ADDRESS_BITS, BY_NAME, CHANNEL_BASES, CONTROL, Register

from .naming import LICENCE, ExportedCore
from .templates import template

#: ``addressQualifier`` of a number, and of a pointer to the memory behind an AXI master.
_SCALAR, _GLOBAL = 0, 1
#: Registers that the convention itself owns.
_PROTOCOL = ("AP_CTRL", "GIE", "IER", "ISR")


def kernel_xml(core: ExportedCore) -> str:
    """The description of the kernel: its ports, and its arguments with their register offsets.

    ``base`` is a pointer to the buffer behind ``m00_axi`` that holds all the memory that a program uses, or, with several
    memory ports, one of the buffers over which it is striped: ``base_1`` is that behind ``m01_axi``, and so on. The queue's
    address, and addresses in commands, count from there, so they may be wherever XRT puts them. Arguments that a host leaves
    out are 0, the default of each.

    Parameters
    ----------
    core : ExportedCore

    Returns
    -------
    str
    """
    host = (*CONTROL, *(r for r in CHANNEL_BASES if r.channels <= core.config.channels))
    registers = [r for r in host if r.name not in _PROTOCOL and not r.name.endswith("_HI")]
    return template(
        "kernel.xml",
        HEADER=f"An XRT RTL kernel: Tailrace {core.version}, configuration {core.config.name}; licence: {LICENCE}",
        MODULE=core.module,
        VERSION=core.version,
        CONTROL_RANGE=f"{1 << ADDRESS_BITS:#x}",
        MEMORY_PORTS="\n".join(_memory_port(name, core) for name in memory_port_names(core.config)),
        ARGUMENTS="\n".join(_argument(number, register) for number, register in enumerate(registers)),
    )


def _memory_port(name: str, core: ExportedCore) -> str:
    return (
        f'      <port name="{name}" mode="master" range="0xFFFFFFFFFFFFFFFF" dataWidth="{core.config.bus_width}"'
        ' portType="addressable" base="0x0"/>'
    )


def _argument(number: int, register: Register) -> str:
    name, wide = register.name.lower().removesuffix("_lo"), register.name.endswith("_LO")
    pointer = register in CHANNEL_BASES or register.name == "BASE_LO"
    assert not wide or BY_NAME[register.name.removesuffix("LO") + "HI"].offset == register.offset + 4
    size = 8 if wide else 4
    kind, port = ("void*", f"m{register.channels - 1:02}_axi") if pointer else ("ulong" if wide else "uint", "s_axi_control")
    return (
        f'      <arg name="{name}" addressQualifier="{_GLOBAL if pointer else _SCALAR}" id="{number}" port="{port}"'
        f' size="{size:#x}" offset="{register.offset:#x}" type="{kind}" hostOffset="0x0" hostSize="{size:#x}"/>'
    )


def package_script(core: ExportedCore) -> str:
    """The Tcl script for Vivado that packages the kernel.

    Parameters
    ----------
    core : ExportedCore

    Returns
    -------
    str
    """
    return template(
        "package_kernel.tcl",
        HEADER=core.header("Tcl for Vivado", "#").rstrip(),
        MODULE=core.module,
        VERSION=core.version,
        CONFIG=core.config.name,
        MEMORY_PORTS=" ".join(memory_port_names(core.config)),
    )
