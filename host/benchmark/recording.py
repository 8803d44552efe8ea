"""One run of a decode program in simulation, recorded; what has been measured once is kept in the cache."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.decode import pass_arguments
from tailrace.firmware.program import Program
from tailrace.sim.build import simulated_cycles_key
from tailrace.sim.cache import cached, content_key, is_cached
from tailrace.sim.memory_models import dram_of
from tailrace.sim.timeline import USES, EventKind, Timeline
from tailrace.sim.verilated import VerilatedDevice
from tailrace.spec.config import Config

from ..device.counters import NAMES
from ..device.driver import Device
from ..device.training import optimised_simulation
from ..image.image import Image, TablePiece
from ..image.programs import Programs
from ..image.write import write_image
from .waits import uses_until, waits

_Key = TypeVar("_Key")
#: Folder of the cache.
_FOLDER = "cycles"
_RESULT = "recording.json"
#: Part of the names of what is cached: to be raised when what a recording holds, or means, changes.
_VERSION = "2"
#: Cycles of a row of the timeline.
_BUCKET = 16
#: Bytes of weights and tables: below 0x3C, so that whatever is read as float16 or float32 is finite.
_LARGEST_BYTE = 0x3B
_TILE = 1 << 22
#: Bytes of embeddings that are filled: at least a row.
_ROW = 1 << 16
#: Sections that a layer begins with: what mixes tokens comes before the feed-forward.
_BEGINS = re.compile(r"layers? .*: (?!feed-forward)")
#: Cycles between two looks at what has been done.
_STEP = 100_000


@dataclass(frozen=True)
class Stretch:
    """Cycles between two places of a run.

    Attributes
    ----------
    cycles : float
    uses : mapping of str to float
        What the port did in them, by `tailrace.sim.timeline.USES`.
    waits : mapping of (str, str) to float
        Those of them without a beat, by cause and by the vector work at hand (`tailrace.host.benchmark.waits`).
    """

    cycles: float
    uses: Mapping[str, float]
    waits: Mapping[tuple[str, str], float]

    def __add__(self, other: "Stretch") -> "Stretch":
        return Stretch(self.cycles + other.cycles, _sum(self.uses, other.uses), _sum(self.waits, other.waits))

    def __mul__(self, factor: float) -> "Stretch":
        return Stretch(factor * self.cycles, _times(self.uses, factor), _times(self.waits, factor))

    def __sub__(self, other: "Stretch") -> "Stretch":
        return self + other * -1


def _sum(one: Mapping[_Key, float], other: Mapping[_Key, float]) -> dict[_Key, float]:
    return {key: one.get(key, 0.0) + other.get(key, 0.0) for key in {**one, **other}}


def _times(values: Mapping[_Key, float], factor: float) -> dict[_Key, float]:
    return {key: factor * value for key, value in values.items()}


@dataclass(frozen=True)
class Recording:
    """A recorded run.

    Attributes
    ----------
    whole : Stretch or None
        From the doorbell to the interrupt; None if it was not run to its end.
    round : Stretch or None
        From the end of the first product of a layer to that of a later layer's; None if there are not that many.
    counters : mapping of str to int
        At the end of a whole run.
    """

    whole: Stretch | None
    round: Stretch | None
    counters: Mapping[str, int]


@dataclass(frozen=True)
class Job:
    """What is to be run.

    Attributes
    ----------
    image : Image
    programs : Programs
    program : str
        Name of one of them.
    config : Config
    memory : str
        See `tailrace.sim.memory_models`.
    position : int
        Of the token, so tokens in the cache.
    real : bool
        Whether the model's weights are written, and not random bytes.
    whole : bool
        Whether it is run to its end, and not to that of a round only.
    seed : int or None
        Of the random bytes; None: all zero.
    optimise : bool
        Whether the simulation is compiled for long runs (`tailrace.device.training`).
    round : (int, int)
        Numbers of the layers whose first products a round is between.
    """

    image: Image
    programs: Programs
    program: str
    config: Config
    memory: str
    position: int
    real: bool = False
    whole: bool = True
    seed: int | None = 1
    optimise: bool = False
    round: tuple[int, int] = (0, 1)

    def key(self) -> str:
        """Name of the recording: all that it depends on, but for weights."""
        commands = self.programs.loaded[self.program].program.commands
        dram = dram_of(self.memory)
        memory = repr(astuple(dram)) if dram else self.memory
        facts = (_VERSION, simulated_cycles_key(self.config), memory, *map(str, (self.position, self.whole, self.round)))
        return content_key([*facts, b"".join(commands)])


def is_recorded(job: Job) -> bool:
    """Whether `record` would find this run in the cache."""
    return is_cached(_FOLDER, job.key())


def record(job: Job, on_progress: Callable[[int], None] | None = None) -> Recording:
    """Run a program, or find in the cache what it took.

    Parameters
    ----------
    job : Job
    on_progress : callable or None
        Told now and then how many cycles have been simulated.

    Raises
    ------
    DeviceError
        If the device stopped.
    """
    folder = cached(
        _FOLDER,
        job.key(),
        lambda draft: _save(draft / _RESULT, simulate(job, on_progress)),
        what=f"a recording of a step of {Path(job.image.imported.name).name}",
    )
    return _load(folder / _RESULT)


def simulate(job: Job, on_progress: Callable[[int], None] | None = None) -> Recording:
    """Run a program, whatever the cache holds."""
    size = -(-job.programs.end // 4096) * 4096
    loaded = job.programs.loaded[job.program]
    with _RecordedDevice(job, size, on_progress or (lambda cycles: None)) as transport:
        _fill(job, transport)
        device = Device(transport)
        rows = job.image.request.batch
        arguments = pass_arguments(range(rows), [job.position] * rows)
        try:
            counters = device.start(loaded.address, len(loaded.program.commands), arguments=arguments)
        except _SeenEnoughError:
            return Recording(None, _round(transport.timeline(), loaded.program, job.round), {})
        timeline = transport.timeline()
    first, end = timeline.runs()[0]
    # All buckets, as the first and the last are not full.
    last = timeline.first_cycle + timeline.bucket_cycles * len(timeline.uses)
    whole = replace(_stretch(timeline, loaded.program, timeline.first_cycle, last), cycles=end - first)
    counted = [counters[name] for name in NAMES]
    # The recording and the counters look at the same signals.
    assert sum(whole.uses.values()) == whole.cycles == counters.cycles, (whole, counters)
    return Recording(whole, _round(timeline, loaded.program, job.round), dict(zip(NAMES, counted, strict=True)))


class _SeenEnoughError(Exception):
    """The rest of a run is not needed."""


class _RecordedDevice(VerilatedDevice):
    """A device whose waits end when the run does, or else when the round is over."""

    def __init__(self, job: Job, size: int, on_progress: Callable[[int], None]) -> None:
        library = optimised_simulation(job.config, probe=True) if job.optimise else None
        super().__init__(job.config, size, memory=job.memory, timeline=_BUCKET, library=library)
        self._program, self._last = None if job.whole else job.programs.loaded[job.program].program, job.round[1]
        self._on_progress = on_progress

    def wait(self, timeout: float) -> None:
        # The watchdog of the core ends a run that makes no progress.
        start = self.cycles
        while not (timeline := self.timeline()).runs():
            if self._program and len(first_products(timeline, self._program)) > self._last:
                raise _SeenEnoughError
            self.run(_STEP)
            self._on_progress(self.cycles - start)


def first_products(timeline: Timeline, program: Program) -> list[int]:
    """Cycles in which the first product of each layer was finished, in order."""
    begins = [first for first, text in program.sections if _BEGINS.match(text)]
    kinds = [traffic.kind for traffic in program.traffic]
    firsts = [kinds.index("weights", begin) for begin in begins]
    starts = timeline.events[timeline.events["kind"] == EventKind.MATRIX_START]
    ends = timeline.events["cycle"][timeline.events["kind"] == EventKind.MATRIX_FINISH]
    return [int(end) for begun, end in zip(starts, ends, strict=False) if begun["index"] in firsts]


def _round(timeline: Timeline, program: Program, layers: tuple[int, int]) -> Stretch | None:
    ends = first_products(timeline, program)
    return _stretch(timeline, program, *(ends[n] for n in layers)) if len(ends) > layers[1] else None


def _stretch(timeline: Timeline, program: Program, first: int, end: int) -> Stretch:
    before, after = uses_until(timeline, [first, end])
    uses = {use: float(count) for use, count in zip(USES, after - before, strict=True)}
    return Stretch(end - first, uses, waits(timeline, program, first, end))


def _fill(job: Job, device: VerilatedDevice) -> None:
    image = job.image
    if job.real:
        write_image(image, device)
    elif job.seed is not None:
        tile = np.random.default_rng(job.seed).integers(0, _LARGEST_BYTE + 1, _TILE, dtype=np.uint8)
        for piece in image.pieces:
            # Of the embeddings one row is used.
            one_row = isinstance(piece, TablePiece) and piece.role == "embedding"
            _repeat(device, tile, piece.address, min(piece.size, _ROW) if one_row else piece.size)
        written = max(piece.address + piece.size for piece in image.pieces)
        _repeat(device, tile, written, image.end - written)
    loaded = job.programs.loaded[job.program]
    device.write(loaded.address, b"".join(loaded.program.commands))


def _repeat(device: VerilatedDevice, tile: NDArray[np.uint8], address: int, size: int) -> None:
    for start in range(0, size, len(tile)):
        count = min(len(tile), size - start)
        device.memory[address + start : address + start + count] = tile[:count]


def _save(path: Path, recording: Recording) -> None:
    def plain(stretch: Stretch | None) -> object:
        if stretch is None:
            return None
        waiting = [[*key, round(value, 2)] for key, value in sorted(stretch.waits.items())]
        return {"cycles": stretch.cycles, "uses": stretch.uses, "waits": waiting}

    facts = {"whole": plain(recording.whole), "round": plain(recording.round), "counters": recording.counters}
    path.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _load(path: Path) -> Recording:
    facts = json.loads(path.read_text(encoding="utf-8"))

    def stretch(found: dict[str, Any] | None) -> Stretch | None:
        if found is None:
            return None
        waiting = {(cause, work): cycles for cause, work, cycles in found["waits"]}
        return Stretch(found["cycles"], found["uses"], waiting)

    return Recording(stretch(facts["whole"]), stretch(facts["round"]), facts["counters"])
