"""Memory controllers, against what LiteDRAM says of them elsewhere."""

import csv
import re
from pathlib import Path

import pytest

from tailrace.hdl.boards import litedram
from tailrace.hdl.boards.litedram import ControlWrite, LiteDram, generate
from tailrace.spec.errors import MissingPackage, ToolError


def test_start_is_what_litedrams_own_software_does(controller: LiteDram, simulated_controller: LiteDram) -> None:
    """The same writes as the C code that LiteDRAM generates for processors, by the addresses of its table of registers."""
    for made in (controller, simulated_controller):
        folder = made.verilog.parent.parent
        with (folder / "csr.csv").open() as table:
            registers = {row[1]: int(row[2], 16) for row in csv.reader(table) if row[0] == "csr_register"}
        header = (folder / "software/include/generated/sdram_phy.h").read_text()
        constants = {name: int(value, 16) for name, value in re.findall(r"#define (DFII_\w+) (0x\w+)", header)}

        def value(text: str, constants: dict[str, int] = constants) -> int:
            return sum(constants[name] if name in constants else int(name, 0) for name in text.split("|"))

        expected: list[ControlWrite] = []
        body = header[header.index("init_sequence(void)") :]
        for call, text in re.findall(r"(\w+)\(((?:DFII|0x|\d)[\w|]*)\);", body):
            if call == "cdelay":
                expected[-1] = ControlWrite(expected[-1].address, expected[-1].value, value(text))
            elif call == "command_p0":
                expected += [
                    ControlWrite(registers["sdram_dfii_pi0_command"], value(text)),
                    ControlWrite(registers["sdram_dfii_pi0_command_issue"], 1),
                ]
            else:
                expected.append(ControlWrite(registers[call.removesuffix("_write")], value(text)))
        assert len(expected) == 27
        expected += [
            ControlWrite(registers["sdram_dfii_control"], constants["DFII_CONTROL_SEL"]),
            ControlWrite(registers["ddrctrl_init_done"], 1),
        ]
        assert list(made.start) == expected


def test_memory_is_left_alone_for_200_microseconds_first(controller: LiteDram) -> None:
    first = next(write for write in controller.start if write.wait)
    # Up to 100 MHz.
    assert first.wait / 100_000_000 >= 200e-6


def test_ports(controller: LiteDram, simulated_controller: LiteDram) -> None:
    for made in (controller, simulated_controller):
        assert made.memory_bytes == 32 << 20
        assert made.ports["clk"] == made.ports["rst"] == ("input", 1)
        for port, width in (("core", 128), ("host", 32)):
            assert made.ports[f"user_port_{port}_araddr"] == ("input", 25)
            assert made.ports[f"user_port_{port}_rdata"] == ("output", width)
            assert made.ports[f"user_port_{port}_wstrb"] == ("input", width // 8)
    pads = {name: bits for name, (_, bits) in controller.ports.items() if name.startswith("sdram_")}
    assert controller.ports["sdram_dq"] == ("inout", 16)
    assert sum(pads.values()) == 13 + 2 + 16 + 2 + 5
    assert not [name for name in simulated_controller.ports if name.startswith("sdram_")]


def test_black_box_has_the_ports(controller: LiteDram) -> None:
    assert "inout [15:0] sdram_dq" in controller.black_box
    assert controller.black_box.startswith("module litedram_core(input [0:0] clk, ")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(litedram, "find_spec", lambda package: None if package == "litex" else object())
    with pytest.raises(MissingPackage, match="^the Python package litex is needed to make a memory controller: "):
        generate(tmp_path, "memory", 50e6, 128)


def test_what_litedram_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError) as error:
        generate(tmp_path, "memory", 50e6, 24)
    assert str(error.value) == "LiteDRAM could not make 'memory': ValueError: Ratio must be an int"
