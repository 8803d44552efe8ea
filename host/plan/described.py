"""A model to plan for: a file, or a shape whose weights nobody needs; and what a prefill elsewhere takes of it."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from tailrace.firmware.description import Attention, Mixer
from tailrace.spec.errors import ModelError

from ..benchmark.models import imported_shape
from ..benchmark.must_read import layer_bytes, matrix_bytes
from ..gguf.describe import ImportedModel, import_model
from ..gguf.file import open_model
from ..image.image import Image, experts_used
from ..models.fetch import resolve_model
from ..models.measured import SHAPES
from ..models.published import PUBLISHED
from ..progress import Progress

#: Shapes by name: those that are measured come first, with the context that is asked for.
_PUBLISHED = {shape.name: shape for shape in PUBLISHED}
NAMES = tuple(dict.fromkeys([*SHAPES, *_PUBLISHED]))


@dataclass(frozen=True)
class PlannedModel:
    """A model with the context that it is planned for.

    Attributes
    ----------
    name : str
    imported : ImportedModel
    """

    name: str
    imported: ImportedModel

    @cached_property
    def parameters(self) -> int:
        """Numbers in all of its tensors."""
        return sum(prod(tensor.shape) for tensor in self.imported.model.tensors.values())

    @cached_property
    def used(self) -> int:
        """Numbers of the matrices that a token is multiplied with: of experts, the chosen ones."""
        return sum(experts_used(self.imported, role) * s.rows * s.columns for role, s in self.imported.matrices.items())

    def read(self, tokens: int) -> float:
        """Numbers that a prefill of so many tokens reads at most: as many experts as tokens can choose."""
        return sum(
            min(max(s.experts, 1), tokens * experts_used(self.imported, role)) * s.rows * s.columns
            for role, s in self.imported.matrices.items()
        )

    def operations(self, tokens: int) -> float:
        """Multiplications and additions of a prefill: two for each number that a token uses, and those of attention."""
        layers = self.imported.description.layers
        seen = sum(_pairs(mixer, tokens) for layer in layers for mixer in (layer.attention, layer.beside) if mixer)
        return 2.0 * self.used * tokens + 2.0 * seen


def _pairs(mixer: Mixer, tokens: int) -> float:
    """Elements of keys and values that the tokens of a prompt see in a layer, for all heads."""
    if not isinstance(mixer, Attention):
        return 0.0
    if mixer.window is None or tokens <= mixer.window:
        seen = tokens * (tokens + 1) / 2
    else:
        seen = sum(position + 1 - mixer.first_seen(position) for position in range(tokens))
    return seen * mixer.heads * (mixer.head_size + mixer.value_size)


def cache_bytes(image: Image, tokens: int) -> int:
    """Bytes of keys, values and states that a prompt of so many tokens leaves in the device's form."""
    if not tokens:
        return 0
    layers = range(len(image.imported.description.layers))
    kept = sum(layer_bytes(image, n, tokens - 1) for n in layers)
    return kept - sum(matrix_bytes(image, role) for role in image.imported.matrices if role.startswith("layers."))


def find_model(name: str, context: int | None, default: int, on_progress: Progress | None = None) -> PlannedModel:
    """Find a model by the name of a shape, or open it as `tailrace run` does.

    Parameters
    ----------
    name : str
        One of `NAMES`, a name that `tailrace run` takes, or a file or folder.
    context : int or None
        Tokens that each user has room for; None: `default`, or what the model was trained for if that is less.
    default : int
    on_progress : callable or None

    Raises
    ------
    ModelError
        If there is no such model, or it was not trained for that many tokens.
    """
    if name in SHAPES:
        wanted = context or default
        return PlannedModel(name, imported_shape(replace(SHAPES[name], context=max(SHAPES[name].context, wanted)), wanted))
    if name in _PUBLISHED:
        return PlannedModel(name, imported_shape(_PUBLISHED[name], context or min(default, _PUBLISHED[name].context)))
    path = resolve_model(name, on_progress)
    if not path.exists():
        raise ModelError(f"there is no model {name}: give a GGUF file, smollm2, shakespeare, or a shape: {', '.join(NAMES)}")
    opened = open_model(path)
    return PlannedModel(path.name, import_model(opened, context or min(default, opened.context_length)))
