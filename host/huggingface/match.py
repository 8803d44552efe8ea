"""Whether a GGUF file holds the model that PyTorch has: its shape, its angles, and samples of its numbers."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from math import isclose
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.description import Attention, Description
from tailrace.spec.errors import ModelError

from ..gguf.closeness import distance, quantisation_bound
from ..gguf.describe import DescribedModel, ImportedModel, Source

#: Rows of each matrix that are compared.
_ROWS = 4


def check_same(model: DescribedModel, file: ImportedModel) -> None:
    """Check that a file was made of a model.

    Parameters
    ----------
    model : DescribedModel
        From `describe_model`.
    file : ImportedModel
        For the same context.

    Raises
    ------
    ModelError
        If the file is another model's, with the first difference that was found: in sizes, in angles, or in a tensor.
    """
    for reason in shape_differences(model, file):
        raise _another(model, file, reason)
    for kind in ("tables", "matrices"):
        for role, source in getattr(model, kind).items():
            _compare(model, file, source, getattr(file, kind)[role])


def shape_differences(model: DescribedModel, file: ImportedModel) -> Iterator[str]:
    """Tell in what a file differs from a model, its numbers apart."""
    for what, ours, theirs in differences("", _seen(model), _seen(file)):
        yield f"{what} is {theirs} in the file, and {ours} in the model"
    for name in sorted({attention.rope for attention in model.description.attentions} & model.ropes.keys() & file.ropes.keys()):
        ours, theirs = model.ropes[name], file.ropes[name]
        if ours.size != theirs.size:
            continue
        # The angle by which a wrong frequency is off grows with the position: here it is bounded for every position.
        if not np.allclose(ours.frequencies(), theirs.frequencies(), rtol=1e-5, atol=0):
            yield "its angles of RoPE are others (those of a model that was cast with .to(dtype) are rounded: load with dtype=)"
        if not isclose(ours.magnitude, theirs.magnitude, rel_tol=1e-4):
            yield f"its angles have the magnitude {theirs.magnitude:g}, and the model's {ours.magnitude:g}"
    for kind in ("matrices", "tables"):
        ours, theirs = getattr(model, kind), getattr(file, kind)
        for role in sorted(ours.keys() ^ theirs.keys()):
            side, other = ("the model", "the file") if role in ours else ("the file", "the model")
            yield f"{side} has a tensor for {role}, and {other} has none"


def _another(model: DescribedModel, file: ImportedModel, reason: str) -> ModelError:
    return ModelError(f"{file.name} was not made of {model.name}: {reason}. Give the file of this model")


def _seen(model: DescribedModel) -> Description:
    """The description, without windows that nothing can leave within the context."""

    def layer(one: Any) -> Any:
        window = one.attention.window if isinstance(one.attention, Attention) else None
        if window is not None and window >= model.context:
            return replace(one, attention=replace(one.attention, window=None, chunked=False))
        return one

    return replace(model.description, layers=tuple(map(layer, model.description.layers)))


def differences(place: str, ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two descriptions differ, and what is there in each; floats by more than the rounding of a float32."""
    if is_dataclass(ours) and type(ours) is type(theirs):
        for field in fields(ours):
            inner = f"{place}.{field.name}" if place else field.name
            yield from differences(inner, getattr(ours, field.name), getattr(theirs, field.name))
    elif isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(f"{place}.{index}", one, other)
    elif isinstance(ours, tuple) and isinstance(theirs, tuple):
        yield f"the number of {place}", len(ours), len(theirs)
    elif isinstance(ours, float) and isinstance(theirs, float):
        if not isclose(ours, theirs, rel_tol=1e-5):
            yield place, f"{ours:g}", f"{theirs:g}"
    elif ours != theirs:
        yield place, _shown(ours), _shown(theirs)


def _shown(value: Any) -> str:
    return type(value).__name__ if is_dataclass(value) else str(getattr(value, "value", value))


def _compare(model: DescribedModel, file: ImportedModel, ours: Source, theirs: Source) -> None:
    tensor = theirs.tensor
    experts = (0, theirs.experts - 1) if theirs.experts else (0,)
    bound = quantisation_bound(tensor.format)
    for expert in experts:
        if theirs.columns == 1:
            mine, given = ours.numbers(), theirs.numbers()
        else:
            picked = np.unique(np.linspace(0, theirs.rows - 1, _ROWS).astype(int))
            mine, given = (np.concatenate([_row(s, int(r), expert) for r in picked]) for s in (ours, theirs))
        apart = distance(mine, given)
        if not apart <= bound:
            raise _another(
                model,
                file,
                f"{tensor.name} is {apart:.1%} away from {ours.tensor.name}, of which {tensor.type_name} explains at most"
                f" {bound:.1%}",
            )


def _row(source: Source, row: int, expert: int) -> NDArray[np.float32]:
    return source.numbers(row, row + 1, expert)
