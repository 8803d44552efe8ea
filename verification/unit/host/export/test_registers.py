import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tailrace.export import registers
from tailrace.export.constants import constants_header
from tailrace.export.naming import ExportedCore
from tailrace.export.registers import FIELDS, compile_registers, system_rdl, write_c_header, write_ip_xact
from tailrace.export.templates import template
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ErrorCode, ToolError
from tailrace.spec.isa import COMMAND_BYTES, ISA_VERSION
from tailrace.spec.registers import (
    AP_DONE,
    AP_IDLE,
    AP_READY,
    AP_START,
    BY_NAME,
    IDENTIFICATION,
    MAGIC,
    REGISTERS,
    Register,
    offset,
)

CORE = ExportedCore(CONFIGS["tiny"])
SPACE = {"x": "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("systemrdl", "peakrdl_cheader", "peakrdl_ipxact"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("registers")
    device = GoldenDevice(CORE.config, 64)
    constants = {r.offset: device.read_register(r.offset) for r in IDENTIFICATION}
    (folder / "tailrace.rdl").write_text(system_rdl(CORE, constants))
    root = compile_registers(folder / "tailrace.rdl")
    write_c_header(root, folder / "tailrace.h", CORE)
    write_ip_xact(root, folder / "tailrace.xml", CORE)
    (folder / "tailrace_constants.h").write_text(constants_header(CORE))
    (folder / "tailrace_run.h").write_text(template("tailrace_run.h", HEADER="//"))
    return folder


def fields(register: Register) -> list[tuple[str, int]]:
    """Names and masks of a register's fields."""
    return [(f.name, f.mask) for f in FIELDS[register.name]] if register.name in FIELDS else [("value", 0xFFFF_FFFF)]


def run_c(folder: Path, body: str, *flags: str) -> list[str]:
    """Compile a main function with the exported headers, without a warning, and return the lines that it prints."""
    source = '#include <stdio.h>\n#include <stddef.h>\n#include <string.h>\n#include "tailrace_run.h"\n'
    (folder / "main.c").write_text(f"{source}int main(void) {{\n{body}\nreturn 0;\n}}\n")
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", *flags, "main.c", "-o", "main"], cwd=folder, check=True
    )
    return subprocess.run([folder / "main"], capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_header_has_every_register_and_field(folder: Path) -> None:
    prints, expected = [], []
    for register in REGISTERS:
        prints.append(f'printf("{register.name} %zu\\n", offsetof(tailrace_t, {register.name}));')
        expected.append(f"{register.name} {register.offset}")
        for name, mask in fields(register):
            prints.append(f'printf("{name} %u\\n", TAILRACE__{register.name}__{name.upper()}_bm);')
            expected.append(f"{name} {mask}")
    assert run_c(folder, "\n".join(prints)) == expected


def test_ip_xact_has_every_register_and_field(folder: Path) -> None:
    found = {}
    for register in ElementTree.parse(folder / "tailrace.xml").iterfind(".//x:register", SPACE):

        def number(node: ElementTree.Element, name: str) -> int:
            text = node.findtext(f"x:{name}", namespaces=SPACE)
            assert text is not None
            return int(text.replace("'h", "0x"), 0)

        bits = [
            (f.findtext("x:name", namespaces=SPACE), ((1 << number(f, "bitWidth")) - 1) << number(f, "bitOffset"))
            for f in register.iterfind("x:field", SPACE)
        ]
        found[register.findtext("x:name", namespaces=SPACE)] = (number(register, "addressOffset"), bits)
    assert found == {r.name: (r.offset, fields(r)) for r in REGISTERS}


def test_access_and_reset_are_those_of_the_contract(folder: Path) -> None:
    device = GoldenDevice(CORE.config, 64)
    children = {node.inst_name: node for node in compile_registers(folder / "tailrace.rdl").top.registers()}
    for register in REGISTERS:
        node = children[register.name]
        assert node.absolute_address == register.offset
        reset = sum(field.get_property("reset") << field.lsb for field in node.fields())
        assert reset == device.read_register(register.offset), register.name
        if register.access != "special":
            assert (node.has_sw_writable, node.has_sw_readable) == (register.access == "rw", True), register.name


def test_side_effects_are_those_of_the_device(folder: Path) -> None:
    nodes = {node.inst_name: node for node in compile_registers(folder / "tailrace.rdl").top.registers()}

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
    names = ["MAGIC", "ISA_VERSION", "COMMAND_BYTES", *(code.name for code in ErrorCode)]
    prints = "\n".join(f'printf("%u\\n", (unsigned)TAILRACE_{name});' for name in names)
    assert run_c(folder, prints) == [str(int(v)) for v in (MAGIC, ISA_VERSION, COMMAND_BYTES, *ErrorCode)]


def test_a_driver_in_c_reaches_the_registers(folder: Path) -> None:
    body = f"""
        static volatile tailrace_t device;
        printf("%d ", tailrace_is_present(&device));
        device.MAGIC = {MAGIC}u; device.ISA_VERSION = {ISA_VERSION}u;
        printf("%d\\n", tailrace_is_present(&device));
        tailrace_start(&device, 0x123456789AC0ull, 7);
        printf("%x %x %u %u\\n", device.QUEUE_ADDRESS_HI, device.QUEUE_ADDRESS_LO, device.QUEUE_LENGTH, device.AP_CTRL);
        device.AP_CTRL = TAILRACE__AP_CTRL__IDLE_bm; device.ERROR_CODE = TAILRACE_WATCHDOG;
        printf("%u\\n", tailrace_wait(&device));
    """
    assert run_c(folder, body) == ["0 1", "1234 56789ac0 7 1", str(int(ErrorCode.WATCHDOG))]


def test_what_the_compiler_refuses_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("systemrdl")
    path = tmp_path / "bad.rdl"
    path.write_text("addrmap bad { reg { field {} a; } a; reg { field {} a; } a; };")
    with pytest.raises(ToolError, match=r"the SystemRDL compiler refuses .*bad\.rdl: .*; please report this"):
        compile_registers(path)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registers, "find_spec", lambda name: None if name == "peakrdl_ipxact" else object())
    message = "the Python package 'peakrdl-ipxact' is needed to export: run: pip install 'tailrace[export]'"
    with pytest.raises(ToolError) as error:
        registers.require_export_tools()
    assert str(error.value) == message
