"""The simulated board's serial port, with a piece of wire in place of a board: all that is sent comes back."""

import os
import select
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from tailrace.sim.board import LINGER, SimulatedBoard, main
from tailrace.sim.board_build import build_board_library
from tailrace.sim.serial_board import FaultRates
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ConfigError

#: What a byte takes, with the default clocks per bit.
_BYTE_CYCLES = 40
_SECONDS = 20.0

_WIRE = """
module board(input clk, input rst, input uart_rx, output reg uart_tx = 1, output led);
  always @(posedge clk) uart_tx <= uart_rx & ~rst;
  assign led = 0;
endmodule
"""


@pytest.fixture
def board() -> Iterator[SimulatedBoard]:
    with SimulatedBoard(CONFIGS["tiny"], library=build_board_library(_WIRE, "a piece of wire")) as board:
        yield board


class Host:
    """A program that has opened the port."""

    def __init__(self, port: str) -> None:
        self.file = os.open(port, os.O_RDWR | os.O_NOCTTY)

    def exchange(self, data: bytes, expected: int) -> bytes:
        """Send bytes, and return what comes back: as many as are expected, or what there is before nothing more comes."""
        back, sent, end = b"", 0, time.monotonic() + _SECONDS
        while len(back) < expected and time.monotonic() < end:
            if sent < len(data):
                sent += os.write(self.file, data[sent : sent + 512])
            if select.select([self.file], [], [], 0.2 if sent == len(data) else 0)[0]:
                back += os.read(self.file, 4096)
        return back


def test_every_byte_comes_back_in_its_time(board: SimulatedBoard) -> None:
    host, data = Host(board.port), bytes(range(256)) * 8
    before = board.cycles
    assert host.exchange(data, len(data)) == data
    assert len(data) * _BYTE_CYCLES <= board.cycles - before <= len(data) * _BYTE_CYCLES + 2 * LINGER
    assert board.broken_bytes == 0
    assert board.cycles_per_second > 0


def test_time_stands_still_when_nobody_talks(board: SimulatedBoard) -> None:
    host = Host(board.port)
    assert host.exchange(b"x", 1) == b"x"
    end = time.monotonic() + _SECONDS
    while (cycles := board.cycles) != (time.sleep(0.2), board.cycles)[1]:
        assert time.monotonic() < end
    assert cycles >= LINGER
    assert host.exchange(b"y", 1) == b"y"


def test_a_byte_without_a_stop_bit_is_dropped(board: SimulatedBoard) -> None:
    host = Host(board.port)
    assert host.exchange(b"x", 1) == b"x"
    # This board holds its line low while it is reset.
    board.reset(_BYTE_CYCLES)
    # The start bit of the first byte follows at once and is not seen; its ones let the receiver find the next byte.
    assert host.exchange(b"\xffy", 1) == b"y"
    assert board.broken_bytes == 1


@pytest.mark.parametrize(("kind", "change"), [("flipped", 0), ("lost", -1), ("doubled", 1), ("inserted", 1)])
def test_bytes_go_wrong_as_often_as_asked_for(board: SimulatedBoard, kind: str, change: int) -> None:
    board.inject(FaultRates(**{kind: 0.05}), seed=7)
    host, data = Host(board.port), bytes(range(256)) * 4
    back = _until_quiet(host, data)
    wrong = sum(a != b for a, b in zip(back, data, strict=True)) if kind == "flipped" else change * (len(back) - len(data))
    # Each byte passes two wires.
    assert 50 <= wrong <= 160, "seed 7"
    board.inject(FaultRates())
    assert host.exchange(b"fine", 4) == b"fine"


def _until_quiet(host: Host, data: bytes) -> bytes:
    os.write(host.file, data)
    back = b""
    while select.select([host.file], [], [], 1.0)[0]:
        back += os.read(host.file, 4096)
    return back


def test_the_same_seed_gives_the_same_faults() -> None:
    library = build_board_library(_WIRE, "a piece of wire")
    backs = []
    for _ in range(2):
        with SimulatedBoard(CONFIGS["tiny"], library=library) as board:
            board.inject(FaultRates(flipped=0.2), seed=3)
            backs.append(Host(board.port).exchange(bytes(200), 200))
    assert backs[0] == backs[1] != bytes(200)


def test_unplugged_and_plugged_in_again(board: SimulatedBoard) -> None:
    host = Host(board.port)
    assert host.exchange(b"x", 1) == b"x"
    board.unplug()
    assert board.port == ""
    with pytest.raises(OSError):
        os.write(host.file, b"y")
    board.plug()
    board.plug()
    assert Host(board.port).exchange(b"z", 1) == b"z"


def test_a_host_comes_and_goes(board: SimulatedBoard) -> None:
    for text in (b"first", b"second"):
        host = Host(board.port)
        assert host.exchange(text, len(text)) == text
        os.close(host.file)


def test_closed_twice() -> None:
    board = SimulatedBoard(CONFIGS["tiny"], library=build_board_library(_WIRE, "a piece of wire"))
    board.close()
    board.close()
    with pytest.raises(ValueError, match="^the board is switched off$"):
        _ = board.cycles


def test_parameters() -> None:
    with pytest.raises(ConfigError, match="^clocks_per_bit must be between 4 and 64, not 3$"):
        SimulatedBoard(CONFIGS["tiny"], clocks_per_bit=3)


def test_the_command_says_what_is_wrong() -> None:
    result = CliRunner().invoke(main, ["--config", "tinier"])
    assert result.exit_code == 1
    assert (
        result.output == "Error: unknown configuration 'tinier': choose one of tiny, base, large, wide, arty, kv260, u280-hbm\n"
    )
