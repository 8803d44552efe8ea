"""Cycles of whole decode steps, of models whole and of models by their shape: how much of the memory's bandwidth they use."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tailrace.firmware.description import LinearAttention
from tailrace.sim.memory_models import dram_of
from tailrace.spec.config import Config, parse_config
from tailrace.spec.linear_attention import FOLD

from ..gguf.describe import ImportedModel, import_model
from ..gguf.file import open_model
from ..image.builds import lay_out
from ..image.geometry import Geometry
from ..image.image import Image, ImageRequest
from ..image.programs import Programs
from ..models.fetch import NAME, resolve_model
from ..models.measured import SHAPES
from ..models.shapes import Shape
from .models import imported_shape
from .must_read import bytes_again, layer_bytes, matrix_bytes, measured_bytes
from .recording import Job, Recording, Stretch, is_recorded, record
from .repetition import Repetition, repetition_of, whole

#: The model that is there, so that it is run whole, and its own weights are used.
REAL = "SmolLM2-135M"
#: Builds for each width of the bus, with room for long contexts.
CONFIGS = {128: "base,right_hand_sides=4,vector_blocks=1024,buffer_entries=65536", 512: "wide"}
#: Right-hand sides of these builds: so many heads share a read.
SIDES = 4
#: Tokens that every KV cache has room for; for longer contexts there is room for these, and the list of linear attention.
CAPACITY = 4160
#: The longest context.
LONGEST = (1 << 20) - FOLD
CONTEXTS = (0, 1024, 4096)
MEMORIES = ("ideal", "ddr4")


@dataclass(frozen=True)
class Point:
    """A decode step to be measured: a model, a build, tokens in the cache before it, and the memory behind each port.

    The build is as the command line takes it. With linear attention the tokens are those of the middle of a list: half of what
    a list can hold comes on top.
    """

    model: str
    build: str
    context: int
    memory: str

    @property
    def capacity(self) -> int:
        """Tokens that its KV caches have room for."""
        return max(CAPACITY, self.context + FOLD)

    @property
    def config(self) -> Config:
        """Its build."""
        return parse_config(self.build)

    @property
    def bus(self) -> str:
        """Bits of its bus, or the number of its ports and the bits of each."""
        return bus_of(self.config)

    @property
    def title(self) -> str:
        """The point in a line."""
        return f"{self.model}, {self.build}, context {self.context}, {self.memory}"


def bus_of(config: Config) -> str:
    """Bits of a build's bus, or the number of its ports and the bits of each."""
    return str(config.bus_width) if config.channels == 1 else f"{config.channels} x {config.bus_width}"


def build_of(width: int, right_hand_sides: int = SIDES, vector_width: int = 0) -> str:
    """The build that steps are measured on with one port of so many bits."""
    name, wanted = CONFIGS[width], f"right_hand_sides={right_hand_sides}"
    if right_hand_sides != SIDES:
        name = name.replace(f"right_hand_sides={SIDES}", wanted) if "," in name else f"{name},{wanted}"
    return f"{name},vector_width={vector_width}" if vector_width else name


@dataclass(frozen=True)
class Step:
    """A measured decode step.

    Attributes
    ----------
    point : Point
    needed : int
        Bytes that it must read: codes and scales of the weights (of experts those of the chosen ones), and of keys and values.
    again : int
        Bytes of keys and values that are read a second time, because more heads share them than there are right-hand sides.
    total : Stretch
        From doorbell to interrupt, or the sum for all layers; and, of a fold of linear attention, the part of each token.
    whole : bool
        Whether it was run whole.
    fold : float
        Cycles of a fold, which every 64th token of a sequence takes on top; 0: there is none.
    """

    point: Point
    needed: int
    again: int
    total: Stretch
    whole: bool
    fold: float = 0.0

    @property
    def utilisation(self) -> float:
        """Bytes that must be read over what the bus could carry in all cycles."""
        return self.part(self.needed)

    def part(self, size: int) -> float:
        """Bytes over what the bus, or all ports together, could carry in all cycles."""
        return size / (self.total.cycles * self.point.config.beat_bytes)

    @property
    def of_ceiling(self) -> float:
        """Bytes that must be read over what a sequential read would get in all cycles: what refresh leaves of the bus."""
        dram = dram_of(self.point.memory)
        return self.utilisation / (dram.ceiling if dram else 1)


def points(models: Sequence[str], builds: Sequence[str], contexts: Sequence[int], memories: Sequence[str]) -> list[Point]:
    """All combinations; the model that is run whole also at a context of 512 tokens, if there are several."""
    found = []
    for model in models:
        for build in builds:
            for memory in memories:
                wanted = {*contexts, *((512,) if model == REAL and len(contexts) > 1 else ())}
                found += [Point(model, build, context, memory) for context in sorted(wanted)]
    return found


def measure(point: Point, on_progress: Callable[[str, float], None] | None = None) -> Step:
    """Measure a decode step, or find in the cache what it took.

    Parameters
    ----------
    point : Point
    on_progress : callable or None
        Told what is being simulated, and which part of its cycles has been.

    Raises
    ------
    ModelError, LimitError
        If the model does not run on the build.
    """
    return _measure(point, point.model == REAL, on_progress)


def measure_by_shape(point: Point, on_progress: Callable[[str, float], None] | None = None) -> Step:
    """Measure the model that could be run whole like those that can't."""
    return _measure(point, False, on_progress)


def is_measured(point: Point) -> bool:
    """Whether `measure` would find everything in the cache."""
    return all(is_recorded(job) for job in _jobs(point, point.model == REAL))


def is_checked(point: Point) -> bool:
    """Whether `measure`, and for the model that is run whole `measure_by_shape`, would find everything in the cache."""
    return is_measured(point) and all(is_recorded(job) for job in _jobs(point, False))


def _measure(point: Point, real: bool, on_progress: Callable[[str, float], None] | None) -> Step:
    laid_out = _laid_out(point.model, point.build, point.capacity, real)
    recordings = []
    for job in _jobs(point, real):
        estimate = _estimate(laid_out, point, job)

        def tell(cycles: int, estimate: float = estimate) -> None:
            if on_progress:
                on_progress(point.title, cycles / estimate)

        recordings.append(record(job, tell))
    repetition, context = laid_out.repetition, context_of(point, bool(laid_out.folded))
    fold = recordings.pop() if laid_out.folded else None
    total, of_fold = sum_of_layers(recordings, repetition), 0.0
    if fold:
        assert fold.whole is not None
        once = fold.whole * laid_out.folded
        total, of_fold = total + once * (1 / FOLD), once.cycles
    return Step(
        point,
        measured_bytes(laid_out.image, context, repetition),
        bytes_again(laid_out.image, context, repetition),
        total,
        not repetition.missing,
        of_fold,
    )


def context_of(point: Point, folded: bool) -> int:
    """Tokens before the step of a point, which fill half of a list if there are lists that are folded."""
    return point.context + FOLD // 2 if folded else point.context


def sum_of_layers(recordings: Sequence[Recording], repetition: Repetition) -> Stretch:
    """The sum for all layers: what was run whole, and a steady round for each that is missing.

    Parameters
    ----------
    recordings : sequence of Recording
        A whole run, with an empty cache if there is a second recording, which says how much longer a round of layers takes.
    repetition : Repetition
        Which layers were run, and what they stand for.
    """
    whole_run = recordings[0].whole
    assert whole_run is not None
    if not repetition.missing:
        return whole_run
    first, last = recordings[0].round, recordings[-1].round
    assert first is not None
    assert last is not None
    return whole_run + first * repetition.missing + (last - first) * repetition.rounds


@dataclass(frozen=True)
class _LaidOut:
    """A model, or some layers of its shape, laid out for a build."""

    image: Image
    programs: Programs
    config: Config
    repetition: Repetition

    @property
    def folded(self) -> float:
        """Layers whose lists are folded, for each one that is run; 0: there are none."""
        layers = self.image.imported.description.layers
        kinds = [layer.beside is not None or isinstance(layer.attention, LinearAttention) for layer in layers]
        every = sum(kinds[self.repetition.stands_for(n)] for n in range(self.repetition.layers))
        return every / sum(kinds) if every else 0.0


def imported_model(name: str, capacity: int = CAPACITY) -> ImportedModel:
    """A model with all of its layers, and with its own weights if it is the one that is there.

    Of the others it does not matter here what context they were trained for.
    """
    if name == REAL:
        return import_model(open_model(resolve_model(NAME)), capacity)
    return imported_shape(_with_room(SHAPES[name], capacity), capacity)


def _with_room(shape: Shape, capacity: int) -> Shape:
    return replace(shape, context=max(shape.context, capacity))


@lru_cache
def _laid_out(name: str, build: str, capacity: int, real: bool) -> _LaidOut:
    config, shape = parse_config(build), _with_room(SHAPES[name], capacity)
    repetition = whole(shape.layers) if real else repetition_of(imported_shape(shape, capacity))
    imported = imported_model(name, capacity) if real else imported_shape(shape, capacity, repetition.present)
    layout = lay_out(imported, Geometry.of_config(config), ImageRequest())
    return _LaidOut(layout.image, layout.programs, config, repetition)


def _jobs(point: Point, real: bool) -> Iterator[Job]:
    """The runs of a step: one, or for a sum over layers that of an empty context, and a round with the context; and a fold."""
    laid_out = _laid_out(point.model, point.build, point.capacity, real)
    repetition, context = laid_out.repetition, context_of(point, bool(laid_out.folded))

    def at(program: str, context: int) -> str:
        return laid_out.programs.at(program, laid_out.programs.positions(program, context))

    def job(context: int, ends: bool, program: str = "tokens") -> Job:
        return Job(
            laid_out.image, laid_out.programs, at(program, context), laid_out.config, point.memory, context, real=real,
            whole=ends, optimise=True, round=(repetition.first, repetition.first + repetition.period),
        )  # fmt: skip

    yield job(context if not repetition.missing else 0, True)
    if repetition.missing and context:
        yield job(context, False)
    if laid_out.folded:
        yield job(0, True, "fold")


def _estimate(laid_out: _LaidOut, point: Point, job: Job) -> float:
    """Cycles that a run will take at least, for progress."""
    layers = range(job.round[1] if not job.whole else laid_out.repetition.present)
    needed = sum(layer_bytes(laid_out.image, n, job.position) for n in layers)
    needed += matrix_bytes(laid_out.image, "head") if job.whole else 0
    return needed / point.config.beat_bytes
