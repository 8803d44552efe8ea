"""What blocks of the gateware take on an ECP5."""

from collections.abc import Iterator
from pathlib import Path

from ..fpga.build import ROUTED, build_name, build_part
from ..fpga.progress import Activity
from ..fpga.record import Record


def measure_area(parts: tuple[str, ...], config: str, folder: Path, progress: Activity) -> Iterator[Record]:
    """Synthesise, place and route parts of a build, each by itself.

    Parameters
    ----------
    parts : tuple of str
        From `tailrace.fpga.parts.PARTS`.
    config : str
    folder : Path
        Where builds go, each into a folder of its own; what is finished there is not built again.
    progress : callable

    Yields
    ------
    Record

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    for part in parts:

        def step(text: str, part: str = part) -> None:
            progress(f"{part}: {text}")

        yield build_part(part, config, ROUTED, folder / build_name(part, config, ROUTED), progress=step)
