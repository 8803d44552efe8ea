"""A board's bitstream, from its gateware and a generated memory controller."""

from pathlib import Path

from tailrace.spec.config import CONFIGS, Config

from .bitstream import Bitstream, make_bitstream, require_board_tools
from .progress import Activity


def build(
    name: str,
    folder: Path,
    config: Config | None = None,
    clock_hz: int | None = None,
    seed: int | None = None,
    progress: Activity = lambda _: None,
) -> Bitstream:
    """Make a board's bitstream.

    Parameters
    ----------
    name : str
        One of `tailrace.hdl.boards.BOARDS`.
    folder : Path
        Where everything goes; the bitstream is ``NAME.bit``.
    config : Config or None
        None: the board's own. Its bus is 128 bits wide: with less a memory's data can't be gathered fast enough to be worth it,
        and for more no board's memory is fast enough.
    clock_hz : int or None
        None: the board's own.
    seed : int or None
        Of the placement; None: the board's own.
    progress : callable
        Told what is done, in a few words, at each step.

    Raises
    ------
    ConfigError
        If the clock can't be made.
    ToolError
        If a tool is missing or fails, or the clock is not reached.
    """
    require_board_tools()
    from tailrace.hdl.boards.board import find_board
    from tailrace.hdl.boards.litedram import generate

    board = find_board(name)
    config, clock_hz = config or CONFIGS[board.config], clock_hz or board.clock_hz
    progress("making the memory controller")
    controller = generate(folder / "litedram", "litedram_core", board.dram, clock_hz, config.bus_width)
    platform = board.make_platform()
    platform.add_file("litedram_core.v", controller.verilog.read_text(encoding="utf-8"))
    seed = board.seed if seed is None else seed
    return make_bitstream(platform, board.top(config, controller, clock_hz), name, folder, seed, progress, spread=board.spread)
