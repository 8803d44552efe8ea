"""Several sequences at once: the weights are read once for all of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from tailrace.firmware.decode import MAX_ROWS, TOKEN_ROWS
from tailrace.spec.config import RIGHT_HAND_SIDES, parse_config

from ..gguf.describe import import_model
from ..gguf.file import open_model
from ..image.builds import lay_out
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from .recording import Job, record

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


def batches_of(config: str) -> tuple[int, ...]:
    """1, 2, 4 and 8 sequences, as far as a build has a right-hand side for each."""
    return tuple(n for n in RIGHT_HAND_SIDES if n <= min(parse_config(config).right_hand_sides, MAX_ROWS))


def measure_batches(path: str, config: str, *, context: int | None = None, memory: str = "ideal") -> Iterator[BatchStep]:
    """Run a step of a model for as many sequences as `batches_of` says, each as long as the others.

    Parameters
    ----------
    path : str
        GGUF file.
    config : str
    context : int or None
        Tokens in each cache; None: `CONTEXT`, or as many as the model was trained for but one.
    memory : str

    Yields
    ------
    BatchStep

    Raises
    ------
    LimitError
        If the build has no room for the model.
    """
    model = open_model(path)
    context = min(CONTEXT, model.context_length - 1) if context is None else context
    imported, build = import_model(model, context + 1), parse_config(config)
    for batch in batches_of(config):
        # More rows than arguments hold tokens for get their embeddings from the host.
        layout = lay_out(imported, Geometry.of_config(build), ImageRequest(batch, whole_embedding=batch <= TOKEN_ROWS))
        whole = record(Job(layout.image, layout.programs, "tokens", build, memory, context, real=True, optimise=True)).whole
        assert whole is not None
        weights = layout.programs.loaded["tokens"].program.weight_bytes
        yield BatchStep(model.path.name, config, memory, context, batch, whole.cycles, weights)
