"""Builds the simulated board: the gateware of its top level and LiteDRAM's memory controller to a shared object."""

from dataclasses import astuple, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tailrace.hdl.boards import BOARDS
from tailrace.spec.config import Config

from .build import installed_version
from .cache import cached, content_key
from .compile import compile_library
from .progress import announced
from .sources import module_parts, source_parts

#: Name of the top module.
TOP = "board"
#: The board whose memory it has, unless another one is named.
BOARD = BOARDS[0]

_HARNESS = Path(__file__).parent / "cpp"


def build_board(config: Config, clocks_per_bit: int, board: str = BOARD) -> Path:
    """Build the simulation of a board, or find it in the cache.

    Parameters
    ----------
    config : Config
        The build of its core.
    clocks_per_bit : int
        Cycles that a bit takes on the wire.
    board : str
        Whose memory and clock it has: a module of `tailrace.hdl.boards`.

    Returns
    -------
    Path
        The shared object.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    verilog = board_verilog(config, clocks_per_bit, board)
    return build_board_library(verilog, f"the board {board} with configuration {config.name}")


def board_verilog(config: Config, clocks_per_bit: int, board: str = BOARD) -> str:
    """Verilog of a board with LiteDRAM's model of its memory, from the cache if its sources have not changed."""

    def key() -> str:
        sources = module_parts("tailrace.hdl", "tailrace.spec", "tailrace.sim.verilog", __name__)
        versions = [installed_version(package) for package in ("amaranth", "pyosys", "litedram", "litex", "migen")]
        return content_key([*sources, *versions, repr((astuple(replace(config, name="")), clocks_per_bit, board))])

    def make(folder: Path) -> None:
        from tailrace.hdl.boards.board import find_board
        from tailrace.hdl.boards.litedram import generate
        from tailrace.hdl.boards.plain import PlainBoard

        from .verilog import require_tools, to_verilog

        require_tools()
        of = find_board(board)
        with announced(f"elaborating the board {board} with configuration {config.name}"), TemporaryDirectory() as work:
            memory = generate(Path(work), "memory_controller", of.dram, of.clock_hz, config.bus_width, simulated=True)
            top = PlainBoard(config, memory, clock_hz=of.clock_hz, clocks_per_bit=clocks_per_bit)
            system = to_verilog(top, name=TOP, flatten=False, processes=True, black_boxes=memory.black_box)
            verilog = system + memory.verilog.read_text(encoding="utf-8")
        (folder / "board.v").write_text(verilog, encoding="utf-8")

    what = f"the Verilog of the board {board} with configuration {config.name}"
    return (cached("verilog", key, make, what=what) / "board.v").read_text(encoding="utf-8")


def build_board_library(verilog: str, what: str) -> Path:
    """Build the simulation of a module named `TOP` with the ports of a board, or find it in the cache.

    Parameters
    ----------
    verilog : str
        Its ports: those of `tailrace.hdl.boards.plain.PlainBoard`.
    what : str
        What is built, for the line on standard error.

    Returns
    -------
    Path
        The shared object.
    """
    return compile_library(
        verilog,
        TOP,
        "Vboard",
        lambda _: [_HARNESS / "board.cpp"],
        what=what,
        identity=lambda: source_parts((_HARNESS,), "board*"),
    )
