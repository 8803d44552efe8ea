"""Cycles of whole decode steps, of models whole and of models by their shape: how much of the memory's bandwidth they use."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tailrace.firmware.description import Attention, LinearAttention, ShortConvolution
from tailrace.spec.config import Config, parse_config
from tailrace.spec.formats import BLOCK, Q8_0
from tailrace.spec.linear_attention import FOLD

from ..gguf.describe import ImportedModel, import_model
from ..gguf.file import open_model
from ..image.builds import lay_out
from ..image.geometry import Geometry
from ..image.image import Image, ImageRequest, experts_used
from ..image.programs import Programs
from ..models.fetch import NAME, resolve_model
from ..models.shapes import SHAPES, Shape, write_header
from .recording import Job, Recording, Stretch, is_recorded, record

#: The model that is there, so that it is run whole, and its own weights are used.
REAL = "SmolLM2-135M"
#: Builds for each width of the bus: four right-hand sides, so that heads share a read, and room for long contexts.
CONFIGS = {128: "base,right_hand_sides=4,vector_blocks=1024,buffer_entries=65536", 512: "wide"}
#: Tokens that every KV cache has room for.
CAPACITY = 4160
CONTEXTS = (0, 1024, 4096)
MEMORIES = ("ideal", "ddr4")
#: Layers of models that are not run whole.
_LAYERS = 2


@dataclass(frozen=True)
class Point:
    """A decode step to be measured: a model, bits of the bus, tokens in the cache before it, and the memory behind it."""

    model: str
    width: int
    context: int
    memory: str

    @property
    def title(self) -> str:
        """The point in a line."""
        return f"{self.model}, {self.width} bits, context {self.context}, {self.memory}"


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
        From doorbell to interrupt, or the sum for all layers.
    whole : bool
        Whether it was run whole.
    """

    point: Point
    needed: int
    again: int
    total: Stretch
    whole: bool

    @property
    def utilisation(self) -> float:
        """Bytes that must be read over what the bus could carry in all cycles."""
        return self.part(self.needed)

    def part(self, size: int) -> float:
        """Bytes over what the bus could carry in all cycles."""
        return size / (self.total.cycles * self.point.width / 8)


def points(models: Sequence[str], widths: Sequence[int], contexts: Sequence[int], memories: Sequence[str]) -> list[Point]:
    """All combinations; the model that is run whole also at a context of 512 tokens, if there are several."""
    found = []
    for model in models:
        for width in widths:
            for memory in memories:
                wanted = {*contexts, *((512,) if model == REAL and len(contexts) > 1 else ())}
                found += [Point(model, width, context, memory) for context in sorted(wanted)]
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
    laid_out = _laid_out(point.model, point.width, real)
    recordings = []
    for job in _jobs(point, real):
        estimate = _estimate(laid_out, point, job)

        def tell(cycles: int, estimate: float = estimate) -> None:
            if on_progress:
                on_progress(point.title, cycles / estimate)

        recordings.append(record(job, tell))
    layers = SHAPES[point.model].layers
    return Step(
        point,
        measured_bytes(laid_out.image, point.context, layers),
        bytes_again(laid_out.image, point.context, layers),
        sum_of_layers(recordings, layers - laid_out.layers, layers),
        laid_out.layers == layers,
    )


def sum_of_layers(recordings: Sequence[Recording], missing: int, layers: int) -> Stretch:
    """The sum for all layers: what was run whole, and a steady layer for each that is missing.

    Parameters
    ----------
    recordings : sequence of Recording
        A whole run, with an empty cache if there is a second recording, which says how much longer a layer takes.
    missing, layers : int
        Layers that were not run, and all layers of the model.
    """
    whole = recordings[0].whole
    assert whole is not None
    if not missing:
        return whole
    first, last = recordings[0].layer, recordings[-1].layer
    assert first is not None
    assert last is not None
    return whole + first * missing + (last - first) * layers


@dataclass(frozen=True)
class _LaidOut:
    """A model, or some layers of its shape, laid out for a build."""

    image: Image
    programs: Programs
    config: Config

    @property
    def layers(self) -> int:
        return len(self.image.imported.description.layers)


def measured_bytes(image: Image, context: int, layers: int) -> int:
    """Bytes that a step must read if the model has `layers` layers, those that the image lacks like its last one."""
    return _matrix_bytes(image, "head") + _of_layers(image, layers, lambda n: _layer_bytes(image, n, context))


def bytes_again(image: Image, context: int, layers: int) -> int:
    """Bytes of keys and values that a step reads beyond that: each pass over them serves so many heads as right-hand sides."""

    def of_layer(n: int) -> int:
        attention = image.imported.description.layers[n].attention
        if not isinstance(attention, Attention):
            return 0
        passes = -(-attention.group // image.build.right_hand_sides)
        return (passes - 1) * _cache_bytes(image, n, context)

    return _of_layers(image, layers, of_layer)


def _of_layers(image: Image, layers: int, size: Callable[[int], int]) -> int:
    present = [size(n) for n in range(len(image.imported.description.layers))]
    return sum(present) + (layers - len(present)) * present[-1]


def _matrix_bytes(image: Image, role: str) -> int:
    source = image.imported.matrices[role]
    return experts_used(image.imported, role) * source.rows * image.format_of(role).row_bytes(source.columns)


def _layer_bytes(image: Image, n: int, context: int) -> int:
    """Bytes of a layer's weights that a token uses, and of keys and values."""
    weights = sum(_matrix_bytes(image, role) for role in image.imported.matrices if role.startswith(f"layers.{n}."))
    return weights + _cache_bytes(image, n, context)


def _cache_bytes(image: Image, n: int, context: int) -> int:
    """Bytes of a layer's keys and values that a token sees, its own included; or of its state, list and recent rows."""
    attention = image.imported.description.layers[n].attention
    if isinstance(attention, ShortConvolution):
        return 4 * (attention.kernel - 1) * image.imported.description.hidden
    if isinstance(attention, LinearAttention):
        return _state_bytes(attention, context)
    tokens = min(context + 1, attention.window or context + 1)
    key = -(-attention.head_size // BLOCK) * Q8_0.file_bytes
    value = attention.head_size + 4
    return tokens * attention.kv_heads * (key + value)


def _state_bytes(a: LinearAttention, context: int) -> int:
    """Bytes of a state's codes and scales, of the list before a token, and of the recent rows that it sees."""
    entries = context % FOLD
    state = a.value_heads * a.key_size * (2 * a.value_size + 4)
    keys, deltas = a.key_heads * 2 * a.key_size // BLOCK * Q8_0.file_bytes, a.value_heads * (2 * a.value_size + 8)
    return state + entries * (keys + deltas) + 4 * (a.kernel - 1) * a.channels


@lru_cache
def _laid_out(name: str, width: int, real: bool) -> _LaidOut:
    config = parse_config(CONFIGS[width])
    imported = import_model(open_model(resolve_model(NAME)), CAPACITY) if real else _imported_shape(SHAPES[name])
    layout = lay_out(imported, Geometry.of_config(config), ImageRequest())
    return _LaidOut(layout.image, layout.programs, config)


def _imported_shape(shape: Shape) -> ImportedModel:
    # Layers that differ from each other can't stand for each other.
    layers = shape.layers if shape.window else _LAYERS
    with TemporaryDirectory() as folder:
        # The file stays mapped when its name is gone.
        return import_model(open_model(write_header(Path(folder) / "shape.gguf", shape, layers)), CAPACITY)


def _jobs(point: Point, real: bool) -> Iterator[Job]:
    """The runs that a step takes: one, or for a sum over layers that of an empty context and a layer with the context."""
    laid_out = _laid_out(point.model, point.width, real)

    def job(context: int, whole: bool) -> Job:
        built, programs = laid_out.config, laid_out.programs
        return Job(laid_out.image, programs, "tokens", built, point.memory, context, real=real, whole=whole, optimise=True)

    if laid_out.layers == SHAPES[point.model].layers:
        yield job(point.context, True)
        return
    yield job(0, True)
    if point.context:
        yield job(point.context, False)


def _estimate(laid_out: _LaidOut, point: Point, job: Job) -> float:
    """Cycles that a run will take at least, for progress."""
    layers = laid_out.layers if job.whole else 1
    needed = sum(_layer_bytes(laid_out.image, n, job.position) for n in range(layers))
    needed += _matrix_bytes(laid_out.image, "head") if job.whole else 0
    return needed / (point.width / 8)
