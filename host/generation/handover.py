"""Prompts that were computed elsewhere: a hand-over file, checked against the model and quantised as the device quantises."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailrace.spec import handover as contract
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.kv_cache import quantise_keys, quantise_values

from ..device.decoder import Snapshot
from ..gguf.closeness import distance
from ..gguf.describe import ImportedModel
from ..gguf.printable import shown
from ..image.kv_cache import Floats, StoredCache
from .first_layer import explained_distance, first_layer
from .handover_file import HandoverFile, damaged, open_handover
from .sequences import Holder

#: Tokens of a prompt whose keys and values of the first layer are computed again.
_CHECKED = 8


@dataclass(frozen=True)
class Handover:
    """A prompt that was computed elsewhere.

    Attributes
    ----------
    tokens : tuple of int
    snapshot : Snapshot
        Their keys and values, as the device would store them.
    writer, model : str
        Who computed it, and what the model is called there.
    size : int
        Bytes of keys and values in the file.
    """

    tokens: tuple[int, ...]
    snapshot: Snapshot
    writer: str
    model: str
    size: int

    def holder(self) -> Holder:
        """Somebody who has it, and goes on from it."""
        return Holder(self.tokens, self.snapshot, is_foreign=True)


def read_handover(path: Path, imported: ImportedModel) -> Handover:
    """Read a hand-over file (`tailrace.spec.handover`) for a model.

    What the file says of its model is compared with this one: sizes, vocabulary, angles. Then keys and values of the first
    layer are computed anew for some of the tokens, so that another model's, or ones in another order, are found out.

    Parameters
    ----------
    path : Path
    imported : ImportedModel
        Its context has to have room for the prompt.

    Raises
    ------
    ModelError
        If it is no such file, damaged, or of another model.
    LimitError
        If the prompt is longer than the context.
    MissingPackage
        If the package safetensors is not installed.
    """
    if imported.description.is_recurrent:
        raise ModelError(
            f"{imported.name} has layers with states, and hand-over files hold keys and values alone: the device computes its"
            " prompts"
        )
    if imported.description.has_latents:
        raise ModelError(
            f"{imported.name} has latent attention, whose cache holds no keys and values: prompts that were computed elsewhere"
            " are not taken for it, the device computes them"
        )
    attentions = imported.description.attentions
    with_window = [n for n, attention in enumerate(attentions) if attention.window is not None]
    if with_window:
        kind = "attention in chunks" if attentions[with_window[0]].chunked else "sliding windows"
        raise ModelError(
            f"{imported.name} has {kind} (layer {with_window[0]}): prompts that were computed elsewhere are not taken for it"
        )
    file = open_handover(path)
    _check_model(file, imported)
    tokens = _tokens(file, imported)
    layers, size = [], 0
    for n, attention in enumerate(attentions):
        shape = (attention.kv_heads, len(tokens), attention.head_size)
        keys, values = (file.numbers(name, shape) for name in contract.tensor_names(n))
        if n == 0:
            _check_first_layer(path, imported, tokens, keys, values)
        size += sum(file.size(name) for name in contract.tensor_names(n))
        layers.append(_stored(keys, values))
    further = contract.tensor_names(len(layers))[0]
    if further in file.entries:
        raise _another(path, imported, f"it has more layers than the model's {len(layers)}")
    return Handover(tokens, Snapshot(len(tokens), 0, tuple(layers)), file.metadata["writer"], file.metadata["model"], size)


def _stored(keys: Floats, values: Floats) -> StoredCache:
    return StoredCache(*quantise_keys(keys), *quantise_values(values))


def _tokens(file: HandoverFile, imported: ImportedModel) -> tuple[int, ...]:
    entry = file.entries.get(contract.TOKENS, {"shape": ()})
    count = entry["shape"][0] if len(entry["shape"]) == 1 else 0
    tokens = tuple(file.numbers(contract.TOKENS, (count,), ("I64",)).tolist())
    size = imported.description.vocabulary
    if not tokens or not all(0 <= token < size for token in tokens):
        raise damaged(file.path, f"its tokens are not one or more of the model's {size}")
    if count > imported.context:
        raise LimitError(
            f"{file.path} has a prompt of {count} tokens, and the context has room for {imported.context}: load the model with"
            " a larger context"
        )
    return tokens


def _check_model(file: HandoverFile, imported: ImportedModel) -> None:
    for what, ours, theirs in _differences(file, imported):
        raise _another(file.path, imported, f"its {what} is {shown(theirs)}, and the model's {shown(ours)}")


def _differences(file: HandoverFile, imported: ImportedModel) -> Iterator[tuple[str, Any, Any]]:
    metadata, description = file.metadata, imported.description
    if metadata["vocabulary"] != str(description.vocabulary):
        yield "vocabulary", description.vocabulary, metadata["vocabulary"]
    attention = description.attentions[0]
    has_angles = contract.FREQUENCIES in file.entries
    if has_angles != bool(attention.rotary_size):
        ours, theirs = ("angles" if angles else "learned" for angles in (attention.rotary_size, has_angles))
        yield "form of positions", ours, theirs
    elif has_angles:
        rope, pairs = imported.ropes[attention.rope], attention.rotary_size // 2
        found = file.entries[contract.FREQUENCIES]["shape"]
        if found != [pairs]:
            yield "number of angles (pairs of elements of a head that are rotated)", pairs, found[0] if found else 0
            return
        frequencies = file.numbers(contract.FREQUENCIES, (pairs,), ("F64",))
        wrong = np.flatnonzero(~np.isclose(frequencies, rope.frequencies(), rtol=1e-5, atol=0))
        if wrong.size:
            pair = int(wrong[0])
            yield f"angle of pair {pair} (RoPE)", f"{rope.frequencies()[pair]:.6g}", f"{frequencies[pair]:.6g}"
        magnitude = metadata["rope_magnitude"]
        if magnitude != f"{rope.magnitude:.6g}":
            yield "magnitude of angles (RoPE)", f"{rope.magnitude:.6g}", magnitude


def _check_first_layer(path: Path, imported: ImportedModel, tokens: tuple[int, ...], keys: Floats, values: Floats) -> None:
    """Compare with the model's own numbers: another model, or another order of elements, is far away."""
    places = np.unique(np.linspace(0, len(tokens) - 1, _CHECKED).astype(int)).tolist()
    expected = first_layer(imported, [tokens[place] for place in places], places)
    bound = explained_distance(imported)
    for what, own, given in zip(("keys", "values"), expected, (keys, values), strict=True):
        apart = distance(own, given[:, places])
        if not apart <= bound:
            raise _another(
                path,
                imported,
                f"the {what} of its first layer are {apart:.1%} away from the model's, which explains at most {bound:.1%}",
            )


def _another(path: Path, imported: ImportedModel, reason: str) -> ModelError:
    return ModelError(
        f"{path} was not computed by the model of {imported.name}: {reason}. Compute prompts with the model that this file was"
        " made of"
    )
