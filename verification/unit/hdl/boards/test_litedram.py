"""Memory controllers, against what LiteDRAM says of them elsewhere."""

import csv
import re
from pathlib import Path

import pytest

from tailrace.hdl.boards import litedram
from tailrace.hdl.boards.litedram import ControlWrite, LiteDram, generate
from tailrace.hdl.boards.ulx3s import SDRAM
from tailrace.spec.errors import MissingPackage, ToolError


def test_start_is_what_litedrams_own_software_does(
    board_name: str, controller: LiteDram, simulated_controller: LiteDram
) -> None:
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
        assert len(expected) == {"ulx3s": 27, "ecpix5": 26}[board_name]
        expected += [
            ControlWrite(registers["sdram_dfii_control"], constants["DFII_CONTROL_SEL"]),
            ControlWrite(registers["ddrctrl_init_done"], 1),
        ]
        assert list(made.start) == expected


def test_memory_is_left_alone_for_200_microseconds_first(controller: LiteDram) -> None:
    first = next(write for write in controller.start if write.wait)
    # Up to 100 MHz.
    assert first.wait / 100_000_000 >= 200e-6


#: Bytes of the memory and of its model, bits of the host's addresses, pads, and the pads of its data.
SHAPES = {
    "ulx3s": (32 << 20, 32 << 20, 13 + 2 + 16 + 2 + 5, {"sdram_dq": 16}),
    "ecpix5": (512 << 20, 32 << 20, 15 + 3 + 16 + 2 + 2 + 1 + 5, {"ddram_dq": 16, "ddram_dqs_p": 2}),
}


def test_ports(board_name: str, controller: LiteDram, simulated_controller: LiteDram) -> None:
    size, simulated_size, pads, both_ways = SHAPES[board_name]
    for made, memory_bytes in ((controller, size), (simulated_controller, simulated_size)):
        assert made.memory_bytes == memory_bytes
        assert made.ports["clk"] == made.ports["rst"] == ("input", 1)
        # A row of DDR3 has 1,024 columns of two bytes, the SDRAM's half of that.
        assert made.row_bytes == {"ulx3s": 1024, "ecpix5": 2048}[board_name]
        assert made.core_ports == {"ulx3s": ("core",), "ecpix5": ("core_0", "core_1")}[board_name]
        for port, width in (*((port, 128) for port in made.core_ports), ("host", {"ulx3s": 32, "ecpix5": 128}[board_name])):
            assert made.ports[f"user_port_{port}_araddr"] == ("input", memory_bytes.bit_length() - 1)
            assert made.ports[f"user_port_{port}_rdata"] == ("output", width)
            assert made.ports[f"user_port_{port}_wstrb"] == ("input", width // 8)
    found = {name: shape for name, shape in controller.ports.items() if re.match(r"s?d?dram_", name)}
    assert {name: bits for name, (direction, bits) in found.items() if direction == "inout"} == both_ways
    assert sum(bits for _, bits in found.values()) == pads
    assert simulated_controller.board_ports == []


def test_registers_of_read_phases(board_name: str, controller: LiteDram, simulated_controller: LiteDram) -> None:
    """By the addresses of LiteDRAM's table; those of the model are the same."""
    assert controller.read_phases == simulated_controller.read_phases
    phases = controller.read_phases
    if board_name == "ulx3s":
        assert phases is None
        return
    assert phases
    with (controller.verilog.parent.parent / "csr.csv").open() as table:
        registers = {row[1]: int(row[2], 16) for row in csv.reader(table) if row[0] == "csr_register"}
    assert [registers[f"ddrphy_{name}"] for name in ("dly_sel", "rdly_dq_rst", "rdly_dq_inc")] == [
        *(phases.select, phases.reset_delay, phases.next_delay)
    ]
    assert [registers[f"ddrphy_rdly_dq_bitslip{name}"] for name in ("_rst", "")] == [phases.reset_slip, phases.next_slip]
    header = (controller.verilog.parent.parent / "software/include/generated/sdram_phy.h").read_text()
    said = {name: int(value) for name, value in re.findall(r"#define SDRAM_PHY_(DELAYS|BITSLIPS|MODULES) (\d+)", header)}
    assert said == {"DELAYS": phases.delays, "BITSLIPS": phases.slips, "MODULES": phases.lanes}


def test_black_box_has_the_ports(board_name: str, controller: LiteDram) -> None:
    for pad, bits in SHAPES[board_name][3].items():
        assert f"inout [{bits - 1}:0] {pad}" in controller.black_box
    # What the board has no use for.
    assert "_reset_n" not in controller.black_box
    assert controller.black_box.startswith("module litedram_core(input [0:0] clk, ")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(litedram, "find_spec", lambda package: None if package == "litex" else object())
    with pytest.raises(MissingPackage, match="^the Python package litex is needed to make a memory controller: "):
        generate(tmp_path, "memory", SDRAM, 50e6, 128)


def test_what_litedram_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError) as error:
        generate(tmp_path, "memory", SDRAM, 50e6, 24)
    assert str(error.value) == "LiteDRAM could not make 'memory': ValueError: Ratio must be an int"
