"""The ULX3S's bitstream, from its gateware and a generated memory controller."""

from pathlib import Path

from tailrace.spec.config import CONFIGS, Config

from .bitstream import Bitstream, make_bitstream, require_board_tools
from .progress import Activity


def build(
    folder: Path,
    config: Config | None = None,
    clock_hz: int | None = None,
    seed: int = 1,
    progress: Activity = lambda _: None,
) -> Bitstream:
    """Make the board's bitstream.

    Parameters
    ----------
    folder : Path
        Where everything goes; the bitstream is ``ulx3s.bit``.
    config : Config or None
        None: the board's own. Its bus is 128 bits wide, or the memory's data can't be gathered fast enough to be worth it.
    clock_hz : int or None
        None: `tailrace.hdl.boards.ulx3s.CLOCK_HZ`.
    seed : int
        Of the placement.
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
    from tailrace.hdl.boards.litedram import generate
    from tailrace.hdl.boards.ulx3s import CLOCK_HZ, CONFIG, Ulx3s

    config, clock_hz = config or CONFIGS[CONFIG], clock_hz or CLOCK_HZ
    from amaranth_boards.ulx3s import ULX3S_85F_Platform  # type: ignore[import-untyped]

    progress("making the memory controller")
    controller = generate(folder / "litedram", "litedram_core", clock_hz, config.bus_width)
    platform = ULX3S_85F_Platform()
    platform.add_file("litedram_core.v", controller.verilog.read_text(encoding="utf-8"))
    return make_bitstream(platform, Ulx3s(config, controller, clock_hz), "ulx3s", folder, seed, progress)
