"""The system between a board's pins, as Verilog."""

import re

import pytest

from tailrace.hdl.boards.litedram import LiteDram
from tailrace.hdl.boards.memory import BoardMemory
from tailrace.hdl.boards.plain import PlainBoard
from tailrace.hdl.boards.system import LEDS, System
from tailrace.sim.verilog import to_verilog
from tailrace.spec.config import CONFIGS

from .without_core import leave_out_core


def test_plain_board_has_its_ports_and_all_of_the_controllers(
    monkeypatch: pytest.MonkeyPatch, simulated_controller: LiteDram
) -> None:
    leave_out_core(monkeypatch)
    board = PlainBoard(CONFIGS["tiny"], simulated_controller, clock_hz=60_000_000, clocks_per_bit=20)
    text = to_verilog(board, name="board", flatten=False, black_boxes=simulated_controller.black_box)
    ports = re.search(r"module board\((.*?)\);", text)
    assert ports
    assert sorted(ports[1].split(", ")) == ["clk", "leds", "rst", "uart_rx", "uart_tx"]
    assert f"output [{len(LEDS) - 1}:0] leds;" in text
    instance = re.search(r"litedram_core controller \((.*?)\n  \);", text, re.DOTALL)
    assert instance
    joined = set(re.findall(r"\.(\w+)\(", instance[1]))
    inputs = {name for name, (direction, _) in simulated_controller.ports.items() if direction == "input"}
    assert inputs <= joined
    # What the masters have no use for: IDs, which are always 0, and what is also known otherwise.
    unused = {name for name in simulated_controller.ports if name not in joined}
    assert {re.sub(r"^user_port_(core_0|core_1|core|host)_", "", name) for name in unused} == {
        *("bid", "rid", "user_clk", "user_rst", "init_done", "init_error", "wb_ctrl_dat_r", "wb_ctrl_err"),
    }


def test_widths_must_agree(controller: LiteDram) -> None:
    with pytest.raises(ValueError) as error:
        System(CONFIGS["wide"], controller, clock_hz=60_000_000, clocks_per_bit=20)
    assert str(error.value) == "a bus of 512 bits needs such a port, not one of 128 bits"


PADS = {
    "ulx3s": [f"sdram_{pad}" for pad in ("a", "ba", "cas_n", "cke", "cs_n", "dm", "dq", "ras_n", "we_n")],
    "ecpix5": [
        "clk",
        *(f"ddram_{pad}" for pad in ("a", "ba", "cas_n", "cke", "clk_p", "dm", "dq", "dqs_p", "odt", "ras_n", "we_n")),
        *("rst", "user_clk", "user_rst"),
    ],
}


def test_pads_must_be_there(board_name: str, controller: LiteDram, simulated_controller: LiteDram) -> None:
    with pytest.raises(ValueError) as error:
        BoardMemory(controller, 40)
    assert str(error.value) == f"the pads must be {PADS[board_name]}, not []"
    with pytest.raises(ValueError) as error:
        BoardMemory(simulated_controller, 40, {"sdram_a": None})
    assert str(error.value) == "the pads must be [], not ['sdram_a']"
