"""Several sequences at once: the weights are read once for all of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from tailrace.spec.config import parse_config

from ..gguf.describe import import_model
from ..gguf.file import open_model
from ..image.builds import lay_out
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from .recording import Job, record

BATCHES = (1, 2, 4)
#: Tokens in each cache if none are asked for.
CONTEXT = 512


@dataclass(frozen=True)
class BatchStep:
    """A step of several sequences.

    Attributes
    ----------
    model, config, memory : str
    context, batch : int
        Tokens in each sequence's cache, and sequences.
    cycles : float
        From doorbell to interrupt.
    weight_bytes : int
        Bytes of weights that the step reads, as the program's commands ask for them.
    """

    model: str
    config: str
    memory: str
    context: int
    batch: int
    cycles: float
    weight_bytes: int


def measure_batches(
    path: str, config: str, *, batches: tuple[int, ...] = BATCHES, context: int | None = None, memory: str = "ideal"
) -> Iterator[BatchStep]:
    """Run a step of a model for 1, 2 and 4 sequences, each as long as the others.

    Parameters
    ----------
    path : str
        GGUF file.
    config : str
    batches : tuple of int
    context : int or None
        Tokens in each cache; None: `CONTEXT`, or as many as the model was trained for but one.
    memory : str

    Yields
    ------
    BatchStep

    Raises
    ------
    LimitError
        If the build has too few right-hand sides, or no room for the caches.
    """
    model = open_model(path)
    context = min(CONTEXT, model.context_length - 1) if context is None else context
    imported, build = import_model(model, context + 1), parse_config(config)
    for batch in batches:
        layout = lay_out(imported, Geometry.of_config(build), ImageRequest(batch))
        whole = record(Job(layout.image, layout.programs, "tokens", build, memory, context, real=True, optimise=True)).whole
        assert whole is not None
        weights = layout.programs.loaded["tokens"].program.weight_bytes
        yield BatchStep(model.path.name, config, memory, context, batch, whole.cycles, weights)
