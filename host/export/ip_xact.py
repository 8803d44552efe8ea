"""The core as an IP-XACT component (IEEE 1685-2014): registers, bus interfaces, ports and files."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailrace.spec.config import memory_port_names

from .naming import LIBRARY, VENDOR, ExportedCore

_NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
_PREFIX = "ipxact"
_VIEW, _INSTANTIATION, _RTL = "rtl", "verilog", "rtl"
_CLOCK, _RESET, _CONTROL = "ap_clk", "ap_rst_n", "s_axi_control"


@dataclass(frozen=True)
class BusType:
    """A bus definition, by the names under which tools have it.

    Attributes
    ----------
    vendor, library, name, version : str
    """

    vendor: str
    library: str
    name: str
    version: str


#: ARM's definitions; for single signals there are none but those of Vivado.
_AXI4, _AXI4_LITE = (BusType("amba.com", "AMBA4", name, "r0p0_0") for name in ("AXI4", "AXI4-Lite"))
_CLOCKS, _RESETS, _INTERRUPTS = (BusType("xilinx.com", "signal", name, "1.0") for name in ("clock", "reset", "interrupt"))


@dataclass(frozen=True)
class Interface:
    """A bus interface of the core.

    Attributes
    ----------
    name : str
    bus : BusType
    is_master : bool
    ports : dict of str to str
        The port behind each logical name of the bus.
    parameters : dict of str to str
    """

    name: str
    bus: BusType
    is_master: bool
    ports: dict[str, str]
    parameters: dict[str, str]


def interfaces(ports: Iterable[str], memories: Sequence[str]) -> list[Interface]:
    """The bus interfaces that the ports make up.

    Parameters
    ----------
    ports : iterable of str
        Names of all ports.
    memories : sequence of str
        Of the memory ports among them.
    """

    def axi(prefix: str) -> dict[str, str]:
        channels = {p.removeprefix(f"{prefix}_").upper(): p for p in ports if p.startswith(f"{prefix}_")}
        return {"ACLK": _CLOCK, "ARESETn": _RESET, **channels}

    all_of_them = ":".join((_CONTROL, *memories))
    return [
        Interface(_CONTROL, _AXI4_LITE, False, axi(_CONTROL), {}),
        *(Interface(memory, _AXI4, True, axi(memory), {}) for memory in memories),
        Interface(_CLOCK, _CLOCKS, False, {"CLK": _CLOCK}, {"ASSOCIATED_BUSIF": all_of_them, "ASSOCIATED_RESET": _RESET}),
        Interface(_RESET, _RESETS, False, {"RST": _RESET}, {"POLARITY": "ACTIVE_LOW"}),
        Interface("interrupt", _INTERRUPTS, True, {"INTERRUPT": "interrupt"}, {"SENSITIVITY": "LEVEL_HIGH"}),
    ]


def write_ip_xact(root: Any, path: Path, core: ExportedCore) -> None:
    """Write the component. The paths of its files are those of an export whose folder ``registers`` it lies in.

    Parameters
    ----------
    root : systemrdl.node.RootNode
        The registers.
    path : Path
    core : ExportedCore
    """
    from amaranth.hdl import Shape
    from amaranth.lib.wiring import Out
    from peakrdl_ipxact import IPXACTExporter

    from tailrace.hdl.top import Top

    IPXACTExporter(vendor=VENDOR, library=LIBRARY, version=core.version).export(root, str(path), component_name=core.module)
    ElementTree.register_namespace(_PREFIX, _NAMESPACE)
    ElementTree.register_namespace("xsi", "http://www.w3.org/2001/XMLSchema-instance")
    tree = ElementTree.parse(path)
    component = tree.getroot()
    maps = component.find(_tag("memoryMaps"))
    assert maps is not None
    registers = maps.findtext(f"{_tag('memoryMap')}/{_tag('name')}")
    assert registers is not None
    place = list(component).index(maps)
    ports = {
        name: ("out" if member.flow is Out else "in", Shape.cast(member.shape).width)
        for name, member in Top(core.config).signature.members.items()
    }

    before: list[ElementTree.Element] = [ElementTree.Element(_tag(name)) for name in ("busInterfaces", "addressSpaces")]
    component[place:place] = before
    memories = memory_port_names(core.config)
    for interface in interfaces(ports, memories):
        _add_interface(before[0], interface, registers)
    for memory in memories:
        space = _add(before[1], "addressSpace")
        _add(space, "name", memory)
        _add(space, "range", f"'h{1 << core.config.address_width:x}")
        _add(space, "width", str(core.config.bus_width))
    _add_model(component, core, ports)
    _add_files(component, core)
    _add(component, "description", f"Decode co-processor for large language models. Written by: {core.command}")

    ElementTree.indent(tree, "  ")
    text = ElementTree.tostring(component, encoding="unicode")
    # The command has two hyphens, which may not be in a comment.
    title, origin, _ = core.header("The core in IP-XACT (IEEE 1685-2014)", "").splitlines()
    header = f'<?xml version="1.0" encoding="UTF-8"?>\n<!--{title} -->\n<!--{origin} -->\n'
    path.write_text(f"{header}{text}\n", encoding="utf-8")


def _add_interface(parent: ElementTree.Element, interface: Interface, registers: str) -> None:
    element, bus = _add(parent, "busInterface"), interface.bus
    _add(element, "name", interface.name)
    _add(element, "busType", vendor=bus.vendor, library=bus.library, name=bus.name, version=bus.version)
    abstraction = _add(_add(element, "abstractionTypes"), "abstractionType")
    _add(
        abstraction, "abstractionRef",
        vendor=bus.vendor, library=bus.library, name=f"{bus.name}_rtl", version=bus.version,
    )  # fmt: skip
    maps = _add(abstraction, "portMaps")
    for logical, physical in interface.ports.items():
        pair = _add(maps, "portMap")
        _add(_add(pair, "logicalPort"), "name", logical)
        _add(_add(pair, "physicalPort"), "name", physical)
    role = _add(element, "master" if interface.is_master else "slave")
    if interface.bus is _AXI4:
        _add(role, "addressSpaceRef", addressSpaceRef=interface.name)
    elif interface.name == _CONTROL:
        _add(role, "memoryMapRef", memoryMapRef=registers)
    if interface.parameters:
        parameters = _add(element, "parameters")
        for name, value in interface.parameters.items():
            parameter = _add(parameters, "parameter", parameterId=f"{interface.name}_{name}")
            _add(parameter, "name", name)
            _add(parameter, "value", value)


def _add_model(component: ElementTree.Element, core: ExportedCore, ports: dict[str, tuple[str, int]]) -> None:
    model = _add(component, "model")
    view = _add(_add(model, "views"), "view")
    _add(view, "name", _VIEW)
    _add(view, "componentInstantiationRef", _INSTANTIATION)
    instantiation = _add(_add(model, "instantiations"), "componentInstantiation")
    _add(instantiation, "name", _INSTANTIATION)
    _add(instantiation, "language", "Verilog")
    _add(instantiation, "moduleName", core.module)
    _add(_add(instantiation, "fileSetRef"), "localName", _RTL)
    group = _add(model, "ports")
    for name, (direction, bits) in ports.items():
        port = _add(group, "port")
        _add(port, "name", name)
        wire = _add(port, "wire")
        _add(wire, "direction", direction)
        if bits > 1:
            vector = _add(_add(wire, "vectors"), "vector")
            _add(vector, "left", str(bits - 1))
            _add(vector, "right", "0")


def _add_files(component: ElementTree.Element, core: ExportedCore) -> None:
    module = core.module
    sets = {
        _RTL: {f"../rtl/{module}.v": "verilogSource"},
        "testbench": {
            f"../sim/{module}_axi_memory.sv": "systemVerilogSource",
            f"../sim/{module}_tb.sv": "systemVerilogSource",
        },
        "software": {f"../software/{module}{part}.h": "cSource" for part in ("", "_constants", "_run")},
    }
    group = _add(component, "fileSets")
    for name, files in sets.items():
        file_set = _add(group, "fileSet")
        _add(file_set, "name", name)
        for path, kind in files.items():
            file = _add(file_set, "file")
            _add(file, "name", path)
            _add(file, "fileType", kind)
            if kind == "cSource":
                _add(file, "isIncludeFile", "true")


def _add(parent: ElementTree.Element, name: str, text: str | None = None, /, **attributes: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, _tag(name), attributes)
    element.text = text
    return element


def _tag(name: str) -> str:
    return f"{{{_NAMESPACE}}}{name}"
