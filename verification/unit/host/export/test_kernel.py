import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tailrace.export.kernel import kernel_xml, package_script
from tailrace.export.naming import ExportedCore
from tailrace.spec.config import CONFIGS, Config, parse_config
from tailrace.spec.registers import BY_NAME, CONTROL, base_registers

CORE = ExportedCore(CONFIGS["wide"])


def top_ports(config: Config) -> dict[str, int]:
    pytest.importorskip("amaranth")
    from tailrace.hdl.top import Top

    return {name: len(value) for (name,), _, value in Top(config).signature.flatten(Top(config))}


def test_the_kernel_has_the_ports_of_the_core() -> None:
    kernel = ElementTree.fromstring(kernel_xml(CORE)).find("kernel")
    assert kernel is not None
    assert (kernel.get("name"), kernel.get("hwControlProtocol"), kernel.get("interrupt")) == (CORE.module, "ap_ctrl_hs", "true")
    assert kernel.get("vlnv") == f"tailrace:cores:{CORE.module}:{CORE.version}"
    ports = top_ports(CORE.config)
    assert {"ap_clk", "ap_rst_n", "interrupt"} <= set(ports)
    widths = {port.get("name"): int(port.get("dataWidth", "0")) for port in kernel.iterfind("ports/port")}
    assert widths == {"s_axi_control": ports["s_axi_control_rdata"], "m00_axi": ports["m00_axi_rdata"]}
    control = kernel.find("ports/port[@name='s_axi_control']")
    assert control is not None
    assert int(control.get("range", ""), 0) == 1 << ports["s_axi_control_araddr"]


def test_the_arguments_are_all_registers_that_a_run_takes() -> None:
    arguments = list(ElementTree.fromstring(kernel_xml(CORE)).iterfind("kernel/args/arg"))
    assert [a.get("id") for a in arguments] == [str(n) for n in range(len(arguments))]
    covered = set()
    for argument in arguments:
        place, size = (int(argument.get(name, ""), 0) for name in ("offset", "size"))
        covered |= set(range(place, place + size, 4))
        name = argument.get("name", "")
        pointer, wide = name == "base", name in ("base", "limit", "queue_address")
        assert (argument.get("addressQualifier"), argument.get("port")) == (
            ("1", "m00_axi") if pointer else ("0", "s_axi_control")
        )
        assert (argument.get("type"), size) == (("void*", 8) if pointer else ("ulong", 8) if wide else ("uint", 4))
        assert place == BY_NAME[name.upper() + ("_LO" if wide else "")].offset
    # Below 0x10 are the registers of the protocol.
    assert covered == {r.offset for r in CONTROL if r.offset >= 0x10}
    # XRT writes every word up to the last one.
    assert covered == set(range(0x10, 0x50, 4))


@pytest.mark.parametrize("channels", [2, 4])
def test_every_memory_port_has_its_base(channels: int) -> None:
    core = ExportedCore(parse_config(f"base,channels={channels}"))
    kernel = ElementTree.fromstring(kernel_xml(core)).find("kernel")
    assert kernel is not None
    names = [f"m{n:02}_axi" for n in range(channels)]
    ports = top_ports(core.config)
    widths = {port.get("name"): int(port.get("dataWidth", "0")) for port in kernel.iterfind("ports/port")}
    assert widths == {"s_axi_control": 32, **{name: ports[f"{name}_rdata"] for name in names}}
    pointers = [argument for argument in kernel.iterfind("args/arg") if argument.get("type") == "void*"]
    assert [argument.get("port") for argument in pointers] == names
    bases = base_registers(channels)
    assert [argument.get("name") for argument in pointers] == [name.lower() for name in bases]
    assert [int(argument.get("offset", ""), 0) for argument in pointers] == [BY_NAME[f"{name}_LO"].offset for name in bases]
    assert f"foreach interface {{s_axi_control {' '.join(names)}}}" in package_script(core)


def test_the_script_is_complete_tcl_and_names_files_that_exist(tmp_path: Path) -> None:
    tkinter = pytest.importorskip("tkinter")
    script = package_script(CORE)
    interpreter = tkinter.Tcl()
    assert interpreter.call("info", "complete", script)
    assert not interpreter.call("info", "complete", script.replace("close_project -delete", "{"))
    # Run it with Vivado's commands only noted.
    noted: list[tuple[str, ...]] = []
    path = tmp_path / "xrt" / "package_kernel.tcl"
    path.parent.mkdir()
    path.write_text(script)
    interpreter.createcommand("unknown", lambda *words: noted.append(words) or "handle")  # type: ignore[func-returns-value]
    interpreter.eval(f"cd {{{tmp_path}}}; source {{{path}}}")
    commands = {words[0] for words in noted}
    assert {
        "create_project",
        "ipx::package_project",
        "ipx::associate_bus_interfaces",
        "ipx::save_core",
        "package_xo",
    } <= commands
    assert next(words for words in noted if words[0] == "add_files")[-1] == str(tmp_path / "rtl" / f"{CORE.module}.v")
    packed = next(words for words in noted if words[0] == "package_xo")
    assert packed[packed.index("-kernel_xml") + 1] == str(path.parent / "kernel.xml")
    busses = {words[words.index("-busif") + 1] for words in noted if "-busif" in words}
    assert busses == {"s_axi_control", "m00_axi"}
