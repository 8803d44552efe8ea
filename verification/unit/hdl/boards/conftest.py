from collections.abc import Callable
from functools import cache

import pytest

from tailrace.hdl.boards import BOARDS
from tailrace.hdl.boards.board import find_board
from tailrace.hdl.boards.litedram import LiteDram, generate

Controllers = Callable[[str, bool], LiteDram]


@pytest.fixture(scope="session")
def controllers(tmp_path_factory: pytest.TempPathFactory) -> Controllers:
    """A board's memory controller: with pads, or with LiteDRAM's model of the memory."""

    @cache
    def make(name: str, simulated: bool) -> LiteDram:
        board = find_board(name)
        folder = tmp_path_factory.mktemp("litedram") / "made"
        return generate(folder, "litedram_core", board.dram, board.clock_hz, 128, simulated)

    return make


@pytest.fixture(params=BOARDS)
def board_name(request: pytest.FixtureRequest) -> str:
    """Each board."""
    return str(request.param)


@pytest.fixture
def controller(controllers: Controllers, board_name: str) -> LiteDram:
    """A memory controller with pads."""
    return controllers(board_name, False)


@pytest.fixture
def simulated_controller(controllers: Controllers, board_name: str) -> LiteDram:
    """A memory controller with LiteDRAM's model of a memory."""
    return controllers(board_name, True)
