"""What is known of a finished build, kept as ``report.json`` in its folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .critical_path import CriticalPath, Hop
from .mapping import MappedMemory, MappedProduct

REPORT = "report.json"


@dataclass(frozen=True)
class Record:
    """A finished build.

    Attributes
    ----------
    key : str
        Names everything that it was made from: design, family, options, tools.
    config, part, family : str
    beat_bytes : int
        Bytes of a beat on the memory bus.
    target : float
        Frequency in MHz that place and route aimed for.
    seed : int
        Of the placement.
    cells : dict of str to int
        After synthesis, by the family's names.
    excess : dict of str to (int, int)
        What the device has too little of: needed and available.
    levels : int
        Levels of logic between registers, at most.
    logic_delay : float, optional
        Nanoseconds of the slowest such chain without routing, where known.
    megahertz : float, optional
        After place and route, where it was done.
    path : CriticalPath, optional
    memories : list of MappedMemory
    products : list of MappedProduct
    seconds : float
        Time that the tools took.
    """

    key: str
    config: str
    part: str
    family: str
    beat_bytes: int
    target: float
    seed: int
    cells: dict[str, int]
    excess: dict[str, tuple[int, int]]
    levels: int
    logic_delay: float | None
    megahertz: float | None
    path: CriticalPath | None
    memories: list[MappedMemory]
    products: list[MappedProduct]
    seconds: float

    @property
    def bound(self) -> float | None:
        """An upper bound of the frequency in MHz, from the delays of cells alone; None where they are unknown."""
        return 1000 / self.logic_delay if self.logic_delay else None

    def bandwidth(self, megahertz: float) -> float:
        """Bytes per second of the memory bus at a frequency, in 10^9."""
        return self.beat_bytes * megahertz / 1000

    def write(self, folder: Path) -> None:
        """Write ``report.json``."""
        (folder / REPORT).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def read_record(folder: Path) -> Record | None:
    """Read ``report.json`` of a folder; None if there is none, or one that another version wrote."""
    try:
        values = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        path = values["path"]
        if path:
            path["hops"] = tuple(Hop(**hop) for hop in path["hops"])
            values["path"] = CriticalPath(**path)
        values["memories"] = [MappedMemory(**memory) for memory in values["memories"]]
        values["products"] = [MappedProduct(**product) for product in values["products"]]
        values["excess"] = {what: (need, most) for what, (need, most) in values["excess"].items()}
        return Record(**values)
    except (OSError, ValueError, KeyError, TypeError):
        return None
