"""How fast models are decoded without hardware: the emulator, golden and the simulated gateware, and llama.cpp beside them."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os import environ
from pathlib import Path
from typing import Any

from tailrace.sim.cache import VARIABLE, cache_folder
from tailrace.sim.devices import open_device
from tailrace.sim.processes import usable_processors
from tailrace.sim.toolchain import find_compiler
from tailrace.spec.config import parse_config

from ..device.decoder import Decoder
from ..device.driver import Device
from ..device.training import optimised_simulation
from ..gguf.describe import import_model
from ..gguf.file import open_model
from ..image.builds import AUTO, choose
from ..image.image import ImageRequest
from .llama_cpp import LlamaCpp

#: Repetitions of each measurement, of which the median is stated, and sequences that share a step.
REPEATS, BATCHES = 5, (1, 2, 4)
#: The first token of each sequence; each next one is the best.
_FIRST = 1
#: Steps of a repetition; what takes seconds for each takes one.
_STEPS = {"emulator": 16, "llama.cpp": 16, "golden": 2, "verilator": 1}
#: Bytes of a model that takes so many of the quick ones; larger ones take fewer.
_STEPS_BYTES = 128 << 20
#: Kinds of the cache that a start is measured with; images are not among them.
_KINDS = ("compiled", "compilers", "models", "runtime", "verilog")


@dataclass(frozen=True)
class Speed:
    """What decode steps took.

    Attributes
    ----------
    what, conditions : str
        Who decoded, and the build, the compiler, or the version.
    threads, batch, steps : int
        `batch` is sequences, `steps` those of each repetition.
    seconds : tuple of float
        Wall-clock time of each repetition on this machine, the driver's own work included.
    cycles : int
        Of a step, where there are any.
    between : float
        Seconds from the end of a step's pass on the device to the doorbell of the next one, the median; 0 of llama.cpp.
    """

    what: str
    conditions: str
    threads: int
    batch: int
    steps: int
    seconds: tuple[float, ...]
    cycles: int = 0
    between: float = 0.0

    @property
    def rate(self) -> float:
        """Tokens a second, of all sequences together: the median."""
        return self.batch * self.steps / statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """The slowest repetition over the quickest one."""
        return max(self.seconds) / min(self.seconds)


def measure_emulator(path: Path, batch: int) -> Speed:
    """Decode on the emulator, in the build that the command line takes."""
    return _measure(path, "emulator", AUTO, batch, usable_processors(), find_compiler().name)


def measure_golden(path: Path) -> Speed:
    """Decode on golden."""
    return _measure(path, "golden", AUTO, 1, 1, "numpy")


def measure_simulation(path: Path, config: str, threads: int, *, optimised: bool = False) -> Speed:
    """Decode on the simulated gateware, compiled as always or for long runs."""
    name = find_compiler().name
    if not optimised:
        return _measure(path, "verilator", config, 1, threads, name)
    library = optimised_simulation(parse_config(config), threads=threads)
    return _measure(path, "verilator", config, 1, threads, f"{name} --optimise", library=library)


def measure_llama_cpp(path: Path, batch: int) -> Speed:
    """Decode with llama.cpp, from the package `cyllama`.

    Raises
    ------
    ToolError
        If it is not installed.
    """
    threads, steps = usable_processors(), _steps("llama.cpp", path)
    with LlamaCpp(path, batch, threads, 2 + REPEATS * steps) as model:
        seconds = _repeated(model.step, batch, steps)
        return Speed("llama.cpp", model.version, threads, batch, steps, seconds)


def _measure(path: Path, kind: str, config: str, batch: int, threads: int, made_with: str, **options: Any) -> Speed:
    steps = _steps(kind, path)
    model = import_model(open_model(path), 2 + REPEATS * steps)
    choice = choose(model, ImageRequest(batch, False), config, simulated=kind == "verilator")
    if kind != "golden":
        options["threads"] = threads
    with Device(open_device(kind, choice.config, choice.memory, **options)) as device:
        decoder = Decoder(device, model, batch=batch)
        between = _TimesBetween(device.transport)
        seconds = _repeated(lambda given: [int(t) for t in decoder.step(given).argmax(axis=-1)], batch, steps)
        cycles = decoder.counters.cycles // decoder.positions[0]
        return Speed(kind, f"{choice.config.name}, {made_with}", threads, batch, steps, seconds, cycles, between.median)


class _TimesBetween:
    """Measures from the end of each wait for a transport's device to the next wait, which follows the doorbell at once."""

    def __init__(self, transport: Any) -> None:
        self._wait, self._ends, self._seconds = transport.wait, 0.0, list[float]()
        transport.wait = self._timed

    def _timed(self, timeout: float) -> None:
        if self._ends:
            self._seconds.append(time.perf_counter() - self._ends)
        try:
            self._wait(timeout)
        finally:
            self._ends = time.perf_counter()

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self._seconds)


def _steps(kind: str, path: Path) -> int:
    return max(_STEPS[kind] * _STEPS_BYTES // max(path.stat().st_size, _STEPS_BYTES), 1)


def _repeated(step: Callable[[list[int]], list[int]], batch: int, steps: int) -> tuple[float, ...]:
    # The first one reads the weights from the disk, and compiles what is compiled late.
    given, seconds = step([_FIRST] * batch), []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(steps):
            given = step(given)
        seconds.append(time.perf_counter() - start)
    return tuple(seconds)


def compare(path: Path, configs: Sequence[str], threads: int, *, slow: bool = True) -> Iterator[Callable[[], Speed]]:
    """Yield all measurements of a model, each to be called.

    Parameters
    ----------
    path : Path
        GGUF file.
    configs : sequence of str
        Builds of the simulated gateware.
    threads : int
        Threads of the simulation.
    slow : bool
        Whether golden and the simulation are measured as well.
    """
    for batch in BATCHES:
        yield partial(measure_emulator, path, batch)
    if slow:
        yield partial(measure_golden, path)
        for config in configs:
            yield partial(measure_simulation, path, config, threads)
            yield partial(measure_simulation, path, config, threads, optimised=True)
    for batch in BATCHES:
        yield partial(measure_llama_cpp, path, batch)


@dataclass(frozen=True)
class Start:
    """Seconds from the command to its end, after one token.

    Attributes
    ----------
    what : str
    first, second : float
        With everything compiled but no image of the model, and with one; the second is a median.
    """

    what: str
    first: float
    second: float


def measure_start(path: Path) -> Start:
    """Run ``tailrace run`` for one token, for the first time and again.

    The cache is one of its own beside the user's, with links to what is compiled there: nothing of the user's is removed.
    """
    with tempfile.TemporaryDirectory(prefix=".tailrace-start-", dir=cache_folder().parent) as folder:
        for kind in _KINDS:
            if (cache_folder() / kind).is_dir():
                (Path(folder) / kind).symlink_to(cache_folder() / kind)
        command = [sys.executable, "-m", "tailrace", "run", str(path), "-p", "Hello", "-n", "1", "--device", "emulator"]
        seconds = [_timed(command, {**environ, VARIABLE: folder}) for _ in range(1 + REPEATS)]
        return Start("emulator", seconds[0], statistics.median(seconds[1:]))


def measure_llama_cpp_start(path: Path) -> Start:
    """Load a model into llama.cpp and decode one token, each time in a process of its own."""
    program = (
        "import sys; from pathlib import Path; from tailrace.benchmark.llama_cpp import LlamaCpp\n"
        f"with LlamaCpp(Path(sys.argv[1]), 1, {usable_processors()}, 64) as model: model.step([{_FIRST}])"
    )
    seconds = [_timed([sys.executable, "-c", program, str(path)], dict(environ)) for _ in range(1 + REPEATS)]
    return Start("llama.cpp", seconds[0], statistics.median(seconds[1:]))


def _timed(command: Sequence[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start
