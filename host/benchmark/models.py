"""What published models need: a build, memory, bytes per token; and how fast boards would decode them, predicted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tailrace.spec.config import CONFIGS, Config

from ..gguf.describe import ImportedModel, import_model
from ..gguf.file import open_model
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from ..image.layout import fits, longest_context
from ..image.plan import plan_image
from ..models.published import PUBLISHED
from ..models.shapes import Shape, write_header
from .must_read import measured_bytes

#: Tokens that memory and bytes are stated for, or as many as a model was trained for.
CONTEXT = 2048
#: Part of a DDR4 channel's peak that decode steps were measured to use, in simulation: of SmolLM2-135M. Larger models use more.
UTILISATION = 0.91


@dataclass(frozen=True)
class Board:
    """A memory that a core can have (docs/fpga.md).

    Attributes
    ----------
    name : str
    bandwidth : float
        Peak, in bytes per second.
    memory : int
        Bytes.
    """

    name: str
    bandwidth: float
    memory: int


BOARDS = (
    Board("Arty A7-100T", 1.33e9, 256 << 20),
    Board("KV260, one port", 4.8e9, 4 << 30),
    Board("U280, one channel's bandwidth", 14.4e9, 8 << 30),
)


@dataclass(frozen=True)
class Needs:
    """What a model needs.

    Attributes
    ----------
    shape : Shape
    build : Config
        The smallest named build that takes it with `context` tokens.
    context : int
    longest : int
        The longest context of that build.
    memory : int
        Bytes of device memory, without those of programs, which are less than 0.2 MB.
    token_bytes : int
        Bytes that a token at the end of the context must read: weights, keys and values.
    """

    shape: Shape
    build: Config
    context: int
    longest: int
    memory: int
    token_bytes: int

    def speed(self, board: Board) -> float | None:
        """Tokens per second that a board's memory allows, predicted; None if the model does not fit it."""
        return UTILISATION * board.bandwidth / self.token_bytes if self.memory <= board.memory else None


def imported_shape(shape: Shape, context: int, layers: int | None = None, *, drafts: bool = False) -> ImportedModel:
    """A shape as a model, whose weights are holes; `drafts`: with a layer that drafts."""
    with TemporaryDirectory() as folder:
        # The file stays mapped when its name is gone.
        path = write_header(Path(folder) / "shape.gguf", shape, layers, drafts=drafts)
        return replace(import_model(open_model(path), context, drafts=drafts), hollow=True)


def needs_of(shape: Shape) -> Needs:
    """Find out what a model needs, on the smallest of the named builds.

    Raises
    ------
    LimitError
        If none takes it.
    """
    # As `tailrace run` has it: embeddings come from the host.
    context, request = min(CONTEXT, shape.context), ImageRequest(whole_embedding=False)
    model = imported_shape(shape, context)
    taking = (c for c in CONFIGS.values() if fits(model, Geometry.of_config(c), request))
    build = next(taking, list(CONFIGS.values())[-1])
    geometry = Geometry.of_config(build)
    image = plan_image(model, geometry, request)
    needed = measured_bytes(image, context - 1)
    return Needs(shape, build, context, longest_context(model, geometry, request), image.end, needed)


def all_needs(shapes: Sequence[Shape] = PUBLISHED, on_progress: Callable[[str, float], None] | None = None) -> Iterator[Needs]:
    """What each of some models needs."""
    for n, shape in enumerate(shapes):
        if on_progress:
            on_progress(shape.name, n / len(shapes))
        yield needs_of(shape)


def table_rows(needs: Iterable[Needs]) -> Iterator[tuple[str, ...]]:
    """The titles, and a row for each model."""
    memory = f"memory at {CONTEXT:,} tokens"
    yield ("model", "smallest build", "longest context there", memory, "bytes per token", *(b.name for b in BOARDS))
    for n in needs:
        speeds = (n.speed(board) for board in BOARDS)
        yield (
            n.shape.name,
            n.build.name,
            f"{n.longest:,}" + (" (all)" if n.longest == n.shape.context else ""),
            _size(n.memory),
            _size(n.token_bytes),
            *("" if speed is None else f"{speed:.1f}" if speed >= 1 else f"{speed:.2f}" for speed in speeds),
        )


def markdown(needs: Iterable[Needs]) -> str:
    """The table as docs/models.md has it."""
    titles, *rows = table_rows(needs)
    lines = [titles, ["---"] * 2 + ["---:"] * (len(titles) - 2), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
