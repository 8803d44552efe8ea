import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tailrace.export import registers
from tailrace.export.constants import constants_header, run_header
from tailrace.export.ip_xact import write_ip_xact
from tailrace.export.naming import ExportedCore
from tailrace.export.registers import FIELDS, compile_registers, system_rdl, write_c_header
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import CONFIGS, parse_config
from tailrace.spec.errors import ErrorCode, MissingPackage, ToolError
from tailrace.spec.isa import COMMAND_BYTES, ISA_VERSION
from tailrace.spec.registers import (
    AP_DONE,
    AP_IDLE,
    AP_READY,
    AP_START,
    BY_NAME,
    IDENTIFICATION,
    MAGIC,
    NO_WATCHDOG,
    PAGE_BYTES,
    Register,
    offset,
    registers_of,
)

CORE, OTHER = ExportedCore(CONFIGS["tiny"]), ExportedCore(parse_config("base,bus_width=256"))
C, CPP = ("gcc", "-std=c99"), ("g++", "-std=c++11", "-x", "c++")
SPACE = {"x": "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("systemrdl", "peakrdl_cheader", "peakrdl_ipxact"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("registers")
    for core in (CORE, OTHER):
        device = GoldenDevice(core.config, 64)
        constants = {r.offset: device.read_register(r.offset) for r in IDENTIFICATION}
        rdl = folder / f"{core.module}.rdl"
        rdl.write_text(system_rdl(core, constants))
        root = compile_registers(rdl)
        write_c_header(root, folder / f"{core.module}.h", core)
        write_ip_xact(root, folder / f"{core.module}.xml", core)
        (folder / f"{core.module}_constants.h").write_text(constants_header(core))
        (folder / f"{core.module}_run.h").write_text(run_header(core))
    return folder


def fields(register: Register) -> list[tuple[str, int]]:
    """Names and masks of a register's fields."""
    return [(f.name, f.mask) for f in FIELDS[register.name]] if register.name in FIELDS else [("value", 0xFFFF_FFFF)]


def run_c(folder: Path, body: str, compiler: tuple[str, ...] = C) -> list[str]:
    """Compile a main function with the headers of both cores, without a warning, and return the lines that it prints."""
    headers = "".join(f'#include "{core.module}_run.h"\n' for core in (CORE, OTHER))
    source = f"#include <stdio.h>\n#include <stddef.h>\n{headers}int main(void) {{\n{body}\nreturn 0;\n}}\n"
    (folder / "main.c").write_text(source)
    warnings = ("-Wall", "-Wextra", "-Werror", "-pedantic", "-O1")
    subprocess.run([*compiler, *warnings, "main.c", "-o", "main"], cwd=folder, check=True)
    return subprocess.run([folder / "main"], capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_header_has_every_register_and_field(folder: Path) -> None:
    prints, expected = [], []
    for register in registers_of(1):
        prints.append(f'printf("{register.name} %zu\\n", offsetof(tailrace_tiny_t, {register.name}));')
        expected.append(f"{register.name} {register.offset}")
        for name, mask in fields(register):
            prints.append(f'printf("{name} %u\\n", TAILRACE_TINY__{register.name}__{name.upper()}_bm);')
            expected.append(f"{name} {mask}")
    assert run_c(folder, "\n".join(prints)) == expected


def test_ip_xact_has_every_register_and_field(folder: Path) -> None:
    found = {}
    for register in ElementTree.parse(folder / "tailrace_tiny.xml").iterfind(".//x:register", SPACE):

        def number(node: ElementTree.Element, name: str) -> int:
            text = node.findtext(f"x:{name}", namespaces=SPACE)
            assert text is not None
            return int(text.replace("'h", "0x"), 0)

        bits = [
            (f.findtext("x:name", namespaces=SPACE), ((1 << number(f, "bitWidth")) - 1) << number(f, "bitOffset"))
            for f in register.iterfind("x:field", SPACE)
        ]
        found[register.findtext("x:name", namespaces=SPACE)] = (number(register, "addressOffset"), bits)
    assert found == {r.name: (r.offset, fields(r)) for r in registers_of(1)}


def test_access_and_reset_are_those_of_the_contract(folder: Path) -> None:
    device = GoldenDevice(CORE.config, 64)
    children = {node.inst_name: node for node in compile_registers(folder / "tailrace_tiny.rdl").top.registers()}
    for register in registers_of(1):
        node = children[register.name]
        assert node.absolute_address == register.offset
        reset = sum(field.get_property("reset") << field.lsb for field in node.fields())
        assert reset == device.read_register(register.offset), register.name
        if register.access != "special":
            assert (node.has_sw_writable, node.has_sw_readable) == (register.access == "rw", True), register.name


def test_side_effects_are_those_of_the_device(folder: Path) -> None:
    nodes = {node.inst_name: node for node in compile_registers(folder / "tailrace_tiny.rdl").top.registers()}

    def properties(name: str, what: str) -> dict[str, str | None]:
        values = ((field.inst_name, field.get_property(what)) for field in nodes[name].fields())
        return {field: value and value.name for field, value in values}

    device = GoldenDevice(CORE.config, 64)
    for name in ("GIE", "IER"):
        device.write_register(offset(name), 3)
        assert device.read_register(offset(name)) == sum(mask for _, mask in fields(BY_NAME[name]))
    device.write_register(offset("AP_CTRL"), AP_START)
    done = sum(f.mask for f in FIELDS["AP_CTRL"] if properties("AP_CTRL", "onread")[f.name] == "rclr")
    assert done == AP_DONE | AP_READY
    assert device.read_register(offset("AP_CTRL")) == done | AP_IDLE
    assert device.read_register(offset("AP_CTRL")) == AP_IDLE
    assert properties("ISR", "onwrite") == {"done": "wot", "ready": "wot"}
    for value in (3, 0, 3, 0):
        assert device.read_register(offset("ISR")) == value
        device.write_register(offset("ISR"), 3)
    assert properties("AP_CTRL", "onwrite")["start"] == "woset"


def test_constants_are_those_of_the_contract(folder: Path) -> None:
    names = ["MAGIC", "ISA_VERSION", "COMMAND_BYTES", "PAGE_BYTES", "NO_WATCHDOG", *(code.name for code in ErrorCode)]
    prints = "\n".join(f'printf("%u\\n", (unsigned)TAILRACE_TINY_{name});' for name in names)
    assert run_c(folder, prints) == [
        str(int(v)) for v in (MAGIC, ISA_VERSION, COMMAND_BYTES, PAGE_BYTES, NO_WATCHDOG, *ErrorCode)
    ]


@pytest.mark.parametrize("compiler", [C, CPP], ids=["C", "C++"])
def test_a_driver_reaches_the_registers_of_two_cores(folder: Path, compiler: tuple[str, ...]) -> None:
    body, expected = "", []
    for core in (CORE, OTHER):
        name, macro = core.module, core.macro
        body += f"""{{
            static volatile {name}_t device;
            printf("%d ", {name}_is_present(&device));
            device.MAGIC = {MAGIC}u; device.ISA_VERSION = {ISA_VERSION}u;
            printf("%d\\n", {name}_is_present(&device));
            {name}_start(&device, ((uint64_t)0x1234u << 32) | 0x56789AC0u, 7);
            printf("%x %x %u %u\\n", device.QUEUE_ADDRESS_HI, device.QUEUE_ADDRESS_LO, device.QUEUE_LENGTH, device.AP_CTRL);
            device.AP_CTRL = {macro}__AP_CTRL__IDLE_bm; device.ERROR_CODE = {macro}_WATCHDOG;
            printf("%u %u\\n", {name}_wait(&device), (unsigned){macro}__LANES__VALUE_reset);
        }}"""
        expected += ["0 1", "1234 56789ac0 7 1", f"{int(ErrorCode.WATCHDOG)} {core.config.lanes}"]
    assert run_c(folder, body, compiler) == expected


def test_the_registers_of_two_cores_compile_together(folder: Path) -> None:
    systemrdl = pytest.importorskip("systemrdl")
    compiler = systemrdl.RDLCompiler()
    blocks = "".join(f"    {core.module} {core.module}_at @ {n:#x};\n" for n, core in ((0, CORE), (0x1000, OTHER)))
    (folder / "soc.rdl").write_text(f"addrmap soc {{\n{blocks}}};\n")
    for name in (CORE.module, OTHER.module, "soc"):
        compiler.compile_file(str(folder / f"{name}.rdl"))
    places = {
        node.get_path(): node.absolute_address
        for block in compiler.elaborate("soc").top.children()
        for node in block.registers()
    }
    assert places == {
        f"soc.{core.module}_at.{r.name}": n + r.offset for n, core in ((0, CORE), (0x1000, OTHER)) for r in registers_of(1)
    }


def test_what_the_compiler_refuses_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("systemrdl")
    path = tmp_path / "bad.rdl"
    path.write_text("addrmap bad { reg { field {} a; } a; reg { field {} a; } a; };")
    with pytest.raises(ToolError, match=r"the SystemRDL compiler refuses .*bad\.rdl: .*; please report this"):
        compile_registers(path)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registers, "find_spec", lambda name: None if name == "peakrdl_ipxact" else object())
    with pytest.raises(MissingPackage, match="^the Python package peakrdl-ipxact is needed to export: "):
        registers.require_export_tools()
