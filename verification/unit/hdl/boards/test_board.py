"""What boards have in common."""

import pytest

from tailrace.hdl.boards import BOARDS
from tailrace.hdl.boards.board import BAUD, clocks_per_bit, find_board
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ConfigError


def test_serial_line() -> None:
    assert clocks_per_bit(60_000_000, 3_000_000) == 20
    assert clocks_per_bit(50_000_000, 2_000_000) == 25
    # 1.96 % off.
    assert clocks_per_bit(50_000_000, 3_000_000) == 17
    for clock_hz, message in (
        (80_000_000, None),
        (55_000_000, None),
        (25_000_000, "3000000 baud can't be made from 25 MHz: choose a multiple of 3 MHz"),
        (1_000_000, "3000000 baud can't be made from 1 MHz: choose a multiple of 3 MHz"),
    ):
        if message is None:
            assert abs(clock_hz / clocks_per_bit(clock_hz, 3_000_000) / 3e6 - 1) <= 0.02
            continue
        with pytest.raises(ConfigError) as error:
            clocks_per_bit(clock_hz, 3_000_000)
        assert str(error.value) == message


@pytest.mark.parametrize("name", BOARDS)
def test_defaults(name: str) -> None:
    """The serial line's rate is exact, the core's bus is the memory's, and the pins can be found."""
    board = find_board(name)
    assert board.name == name
    assert board.clock_hz / clocks_per_bit(board.clock_hz) == BAUD
    assert CONFIGS[board.config].bus_width == 128
    # The same FPGA, whose name has its speed and its package in it, as the memory controller is made for.
    platform = board.make_platform()
    assert board.dram.device.startswith(f"{platform.device}-{platform.speed}BG")
