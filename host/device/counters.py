"""What the device counted: cycles, beats by what they carried, idle cycles by cause."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tailrace.spec.registers import COUNTERS

NAMES: tuple[str, ...] = tuple(name for name, _ in COUNTERS)
STALLS: tuple[str, ...] = tuple(name for name in NAMES if name.startswith("STALL_"))


@dataclass(frozen=True)
class Counters:
    """Sums over one or more runs.

    Attributes
    ----------
    values : mapping of str to int
        The performance counters by name (`tailrace.spec.registers.COUNTERS`).
    runs : int
        Doorbells.
    weight_bytes : int
        Bytes of the model that were used: those of the GGUF file, without what the layout adds.
    """

    values: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    runs: int = 0
    weight_bytes: int = 0

    def __add__(self, other: "Counters") -> "Counters":
        values = {n: self.values[n] + other.values[n] for n in NAMES}
        return Counters(values, self.runs + other.runs, self.weight_bytes + other.weight_bytes)

    def __sub__(self, other: "Counters") -> "Counters":
        values = {n: self.values[n] - other.values[n] for n in NAMES}
        return Counters(values, self.runs - other.runs, self.weight_bytes - other.weight_bytes)

    def __getitem__(self, name: str) -> int:
        return self.values[name]

    @property
    def cycles(self) -> int:
        """Cycles from doorbell to end, over all runs."""
        return self.values["CYCLES"]

    @property
    def read_beats(self) -> int:
        """Bus beats read, whatever they carried."""
        return self.values["COMMAND_BEATS"] + self.values["VECTOR_BEATS"] + self.values["WEIGHT_BEATS"]

    @property
    def beat_utilisation(self) -> float:
        """Beats read over cycles; 0 if nothing ran."""
        return self.read_beats / self.cycles if self.cycles else 0.0

    def model_utilisation(self, beat_bytes: int) -> float:
        """Bytes of the model over what the bus could have carried in these cycles; 0 if nothing ran."""
        return self.weight_bytes / (self.cycles * beat_bytes) if self.cycles else 0.0
