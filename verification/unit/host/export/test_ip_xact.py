"""The component as ipyxact, which other people's tools are made with, reads it."""

import re
from dataclasses import astuple, fields
from pathlib import Path

import pytest
from amaranth.hdl import Shape
from amaranth.lib.wiring import Out
from ipyxact import ipxact2014
from ipyxact.ipyxact import Component

from tailrace.export.ip_xact import BusType, interfaces, write_ip_xact
from tailrace.export.naming import ExportedCore
from tailrace.export.registers import compile_registers, system_rdl
from tailrace.hdl.top import Top
from tailrace.spec.config import parse_config
from tailrace.spec.registers import registers_of

CORE = ExportedCore(parse_config("base,bus_width=256"))
AXI, LITE = BusType("amba.com", "AMBA4", "AXI4", "r0p0_0"), BusType("amba.com", "AMBA4", "AXI4-Lite", "r0p0_0")
SIGNALS = {
    name: BusType("xilinx.com", "signal", kind, "1.0")
    for name, kind in {"ap_clk": "clock", "ap_rst_n": "reset", "interrupt": "interrupt"}.items()
}
#: What a memory behind an AXI4 interface, and whoever drives AXI4-Lite, may lack; all else is in the protocol.
WANTED = {
    "AXI4": "AW: ID ADDR LEN SIZE BURST LOCK CACHE PROT QOS VALID READY W: DATA STRB LAST VALID READY B: ID RESP VALID READY"
    " AR: ID ADDR LEN SIZE BURST LOCK CACHE PROT QOS VALID READY R: ID DATA RESP LAST VALID READY",
    "AXI4-Lite": "AW: ADDR PROT VALID READY W: DATA STRB VALID READY B: RESP VALID READY AR: ADDR PROT VALID READY"
    " R: DATA RESP VALID READY",
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "registers"
    folder.mkdir()
    rdl = folder / "core.rdl"
    rdl.write_text(system_rdl(CORE, {}))
    path = folder / f"{CORE.module}.xml"
    write_ip_xact(compile_registers(rdl), path, CORE)
    return path


@pytest.fixture(scope="module")
def component(path: Path) -> Component:
    component = Component()
    component.load(path)
    return component


@pytest.fixture(scope="module")
def complete(path: Path) -> object:
    """The same through the classes that are made from the standard's schema: what it does not know is an error."""
    return ipxact2014.parse(str(path), silence=True)


def logical_names(bus: str) -> set[str]:
    """Names of the signals of a bus, clock and reset included."""
    names, channel = {"ACLK", "ARESETn"}, ""
    for word in WANTED[bus].split():
        if word.endswith(":"):
            channel = word[:-1]
        else:
            names.add(channel + word)
    return names


def test_what_it_lists(component: Component) -> None:
    assert (component.vendor, component.library, component.name) == ("tailrace", "cores", CORE.module)
    names = [field.name for field in fields(BusType)]
    found = {b.name: BusType(*(getattr(b.busType, n) for n in names)) for b in component.busInterfaces.busInterface}
    assert found == {"s_axi_control": LITE, "m00_axi": AXI, **SIGNALS}
    registers = [r.name for r in component.memoryMaps.memoryMap[0].addressBlock[0].register]
    assert registers == [r.name for r in registers_of(1)]


def test_every_memory_port_is_an_interface() -> None:
    memories = ["m00_axi", "m01_axi"]
    members = Top(parse_config("base,channels=2")).signature.members
    found = {interface.name: interface for interface in interfaces(list(members), memories)}
    for name in memories:
        assert found[name].is_master
        assert found[name].ports == {"ACLK": "ap_clk", "ARESETn": "ap_rst_n"} | {
            port.removeprefix(f"{name}_").upper(): port for port in members if port.startswith(name)
        }
    assert found["ap_clk"].parameters["ASSOCIATED_BUSIF"] == "s_axi_control:m00_axi:m01_axi"


def test_ports_are_those_of_the_top_level(component: Component) -> None:
    found = {}
    for port in component.model.ports.port:
        vectors = port.wire.vectors
        found[port.name] = (port.wire.direction, vectors.vector[0].left + 1 if vectors else 1)
    members = Top(CORE.config).signature.members.items()
    assert found == {n: ("out" if m.flow is Out else "in", Shape.cast(m.shape).width) for n, m in members}


def test_files_are_those_of_the_export(component: Component, path: Path) -> None:
    """The folder is not made here: `verification/system/test_export.py` sees that all of them are in it."""
    files = {s.name: {f.name: f.fileType for f in s.file} for s in component.fileSets.fileSet}
    assert files["rtl"] == {f"../rtl/{CORE.module}.v": "verilogSource"}
    assert set(files) == {"rtl", "testbench", "software"}
    for name in (name for group in files.values() for name in group):
        place = (path.parent / name).resolve()
        assert place.relative_to(path.parents[1].resolve()).parts[0] in ("rtl", "sim", "software")


def test_each_signal_of_each_bus_is_mapped_to_a_port(complete: object, component: Component) -> None:
    ports = {port.name for port in component.model.ports.port}
    mapped = set()
    for interface in complete.get_busInterfaces().get_busInterface():  # type: ignore[attr-defined]
        abstraction = interface.get_abstractionTypes().get_abstractionType()[0]
        reference, bus = abstraction.get_abstractionRef(), interface.get_busType()
        assert reference.get_name() == f"{bus.get_name()}_rtl"
        pairs = {
            m.get_logicalPort().get_name(): m.get_physicalPort().get_name() for m in abstraction.get_portMaps().get_portMap()
        }
        assert set(pairs.values()) <= ports
        mapped |= set(pairs.values())
        if bus.get_library() == "AMBA4":
            assert pairs.keys() == logical_names(bus.get_name())
            assert (pairs.pop("ACLK"), pairs.pop("ARESETn")) == ("ap_clk", "ap_rst_n")
            assert all(physical == f"{interface.get_name()}_{logical.lower()}" for logical, physical in pairs.items())
    assert mapped == ports


def test_roles(complete: object) -> None:
    roles = {}
    for interface in complete.get_busInterfaces().get_busInterface():  # type: ignore[attr-defined]
        roles[interface.get_name()] = "master" if interface.get_master() is not None else "slave"
    assert roles == {
        "s_axi_control": "slave", "m00_axi": "master", "ap_clk": "slave", "ap_rst_n": "slave", "interrupt": "master",
    }  # fmt: skip


def test_it_can_be_connected(complete: object, tmp_path: Path) -> None:
    """A design of it and a memory: the same bus on both sides, one master and one slave, and the design can be read again."""
    memory = ipxact2014.parseString(
        f"""<ipxact:component xmlns:ipxact="http://www.accellera.org/XMLSchema/IPXACT/1685-2014">
        <ipxact:vendor>test</ipxact:vendor><ipxact:library>test</ipxact:library><ipxact:name>memory</ipxact:name>
        <ipxact:version>1</ipxact:version><ipxact:busInterfaces><ipxact:busInterface><ipxact:name>s_axi</ipxact:name>
        <ipxact:busType vendor="{AXI.vendor}" library="{AXI.library}" name="{AXI.name}" version="{AXI.version}"/>
        <ipxact:slave/></ipxact:busInterface></ipxact:busInterfaces></ipxact:component>""".encode(),
        silence=True,
    )
    ends = []
    for instance, side, name in (("core", complete, "m00_axi"), ("memory", memory, "s_axi")):
        interface = next(b for b in side.get_busInterfaces().get_busInterface() if b.get_name() == name)  # type: ignore[attr-defined]
        bus = interface.get_busType()
        ends.append((instance, name, (bus.get_vendor(), bus.get_library(), bus.get_name(), bus.get_version()), interface))
    assert ends[0][2] == ends[1][2] == astuple(AXI)
    assert [end[3].get_master() is None for end in ends] == [False, True]

    instances = ipxact2014.componentInstances()
    for instance, side in (("core", complete), ("memory", memory)):
        reference = ipxact2014.ConfigurableLibraryRef(
            vendor=side.get_vendor(), library=side.get_library(), name=side.get_name(), version=side.get_version()  # type: ignore[attr-defined]
        )  # fmt: skip
        instances.add_componentInstance(ipxact2014.componentInstance(instanceName=instance, componentRef=reference))
    active = [ipxact2014.activeInterface(componentRef=instance, busRef=name) for instance, name, *_ in ends]
    link = ipxact2014.interconnection(name="memory_bus", activeInterface=active)
    design = ipxact2014.design(
        vendor="test", library="test", name="system", version="1", componentInstances=instances,
        interconnections=ipxact2014.interconnections(interconnection=[link]),
    )  # fmt: skip
    file = tmp_path / "design.xml"
    with file.open("w") as out:
        design.export(out, 0, namespacedef_='xmlns:ipxact="http://www.accellera.org/XMLSchema/IPXACT/1685-2014"')
    again = ipxact2014.parse(str(file), silence=True)
    (joined,) = again.get_interconnections().get_interconnection()
    assert {(a.get_componentRef(), a.get_busRef()) for a in joined.get_activeInterface()} == {("core", "m00_axi"), ("memory", "s_axi")}  # fmt: skip
    names = [i.get_componentRef().get_name() for i in again.get_componentInstances().get_componentInstance()]
    assert names == [CORE.module, "memory"]


def test_it_says_where_it_comes_from(path: Path, component: Component) -> None:
    head = path.read_text().split("<ipxact:component", 1)[0]
    assert re.search(r"<!-- Tailrace \S+, configuration base,bus_width=256; licence: Apache-2.0 -->", head)
    assert component.description.endswith(f"Written by: {CORE.command}")
