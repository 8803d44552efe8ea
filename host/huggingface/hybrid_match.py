"""Whether a GGUF file holds the model with states that PyTorch has: its configuration, its angles, samples of its numbers."""

from collections.abc import Iterator
from math import isclose
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailrace.firmware.description import LinearAttention
from tailrace.spec.errors import ModelError

from ..gguf.closeness import distance, quantisation_bound
from ..gguf.describe import ROPE, ImportedModel, Source
from ..gguf.file import Tensor
from . import internals
from .configuration import recurrent_values_of
from .hybrid_configuration import HYBRID_TYPES
from .hybrid_weights import hybrid_column_order
from .weights import arranged, row_orders, sources

#: What is said of a model that does not change what it computes, or that angles and shapes say.
_APART = {
    "max_position_embeddings", "rope_parameters", "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings",
    "intermediate_size",
}  # fmt: skip
#: Rows of each matrix that are compared.
_ROWS = 4


def check_same_hybrid(model: Any, file: ImportedModel) -> None:
    """Check that a file was made of a model.

    Parameters
    ----------
    model : PreTrainedModel
        Of a type in `HYBRID_TYPES`.
    file : ImportedModel

    Raises
    ------
    ModelError
        If the file is another model's, with the first difference that was found: in the configuration, in angles, or in a
        tensor.
    """
    for reason in _differences(model, file):
        name = str(model.config.name_or_path) or type(model).__name__
        raise ModelError(f"{file.name} was not made of {name}: {reason}. Give the file of this model")


def _differences(model: Any, file: ImportedModel) -> Iterator[str]:
    config = model.config
    if HYBRID_TYPES[config.model_type] != file.description.architecture:
        yield f"architecture is {file.description.architecture} in the file, and {HYBRID_TYPES[config.model_type]} in the model"
    for name, theirs in recurrent_values_of(file).items():
        # What a configuration does not speak of is as it always is.
        ours = getattr(config, name, theirs)
        if name not in _APART and not _equal(ours, theirs):
            yield f"{name} is {theirs} in the file, and {ours} in the model"
    if ROPE in file.ropes:
        rope = file.ropes[ROPE]
        found = internals.rotations(model)[""]
        if 2 * len(found.frequencies) != rope.size or not np.allclose(found.frequencies, rope.frequencies(), rtol=1e-5, atol=0):
            yield "its angles of RoPE are others (those of a model that was cast with .to(dtype) are rounded: load with dtype=)"
        elif not isclose(found.magnitude, rope.magnitude, rel_tol=1e-4):
            yield f"its angles have the magnitude {rope.magnitude:g}, and the model's {found.magnitude:g}"
    yield from _tensors(model, file)


def _tensors(model: Any, file: ImportedModel) -> Iterator[str]:
    linear = next((mixer for _, mixer in file.description.mixers if isinstance(mixer, LinearAttention)), None)
    found = sources(model, file.model)
    orders = row_orders(model, file.model, found, linear)
    for parameter, weight in model.state_dict().items():
        tensors = found[parameter]
        if sum(tensor.rows * tensor.columns for tensor in tensors) != weight.numel():
            yield f"{tensors[0].name} does not have the shape of {parameter}"
        module = model.get_submodule(parameter.rpartition(".")[0])
        order = orders.get(parameter)
        if weight.ndim == 1:
            pairs = [(weight, arranged(file.model, parameter, tensors, module, order, linear).reshape(-1))]
        else:
            columns = None if linear is None else hybrid_column_order(parameter, linear)
            pairs = list(_samples(weight, tensors, order, columns))
        mine = np.concatenate([_numbers(part) for part, _ in pairs])
        apart, bound = distance(mine, np.concatenate([given for _, given in pairs])), quantisation_bound(tensors[0].format)
        if not apart <= bound:
            yield (
                f"{tensors[0].name} is {apart:.1%} away from {parameter}, of which {tensors[0].type_name} explains at most"
                f" {bound:.1%}"
            )


def _samples(
    weight: torch.Tensor, tensors: tuple[Tensor, ...], order: NDArray[np.int64] | None, columns: NDArray[np.int64] | None
) -> Iterator[tuple[torch.Tensor, NDArray[np.float32]]]:
    """Rows of a parameter, and what the file has of each; of experts those of the first and the last one."""
    for expert in (0, len(weight) - 1) if weight.ndim == 3 and len(tensors[0].shape) == 3 else (None,):
        rows = weight.flatten(1) if expert is None else weight[expert]
        heights = [tensor.rows if expert is None else tensor.shape[1] for tensor in tensors]
        for picked in np.unique(np.linspace(0, len(rows) - 1, _ROWS).astype(int)).tolist():
            row, part = int(picked if order is None else order[picked]), 0
            while row >= heights[part]:
                row, part = row - heights[part], part + 1
            row += (expert or 0) * heights[part]
            given = Source(tensors[part], 0, tensors[part].rows, tensors[part].columns).numbers(row, row + 1)[0]
            yield rows[picked], given if columns is None else given[columns]


def _equal(ours: Any, theirs: Any) -> bool:
    if "rope" in (ours, theirs) or theirs is None:
        # Without angles there is more than one name for that.
        return bool((ours == "rope") == (theirs == "rope"))
    if isinstance(theirs, float) and isinstance(ours, int | float):
        return isclose(ours, theirs, rel_tol=1e-5)
    return bool(tuple(ours) == theirs if isinstance(theirs, tuple) else ours == theirs)


def _numbers(part: torch.Tensor) -> Any:
    return part.detach().to("cpu", torch.float32).numpy()
