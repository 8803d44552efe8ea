"""The tensors of a checkpoint, by GGUF's names: views of the mapped files wherever the numbers are the same."""

import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ModelError

from ..printable import printable
from ..quantisation import dequantise
from ..types import PLAIN, TENSOR_TYPE_NUMBERS
from ..writer import NewTensor, tensor_of
from .configuration import Configuration
from .lazy_rows import LazyRows
from .packed import GROUPS, SCALES, WORDS, ZEROS, unpacked
from .shards import Entry

#: Types that GGUF has, too.
_TYPES = ("F32", "F16", "BF16")
#: What old versions have saved, and can be computed.
_COMPUTED = re.compile(r"\.rotary_emb\.inv_freq$|\.masked_bias$")
#: A matrix of one expert; of all of them together GGUF has one tensor.
_EXPERT = re.compile(r"(?P<before>.*\.experts\.)(?P<number>[0-9]{1,6})\.(?P<behind>[a-z0-9_]+\.weight)")
_WEIGHT = ".weight"
_HEAD = "lm_head.weight"
#: Where models that also see have what is about text, and what else they have.
_TEXT, _OTHER_PARTS = (
    re.compile(r"^(language_model\.model\.|model\.language_model\.)"),
    ("vision_tower.", "model.vision_tower.", "multi_modal_projector.", "model.multi_modal_projector."),
)


def _about_text(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Tensors of a model that also sees, by the names that they have in one that does not."""
    found = {name: entry for name, entry in entries.items() if not name.startswith(_OTHER_PARTS)}
    return {_TEXT.sub("model.", name).removeprefix("language_model."): entry for name, entry in found.items()}


def tensors_of(folder: Path, config: Configuration, entries: Mapping[str, Entry]) -> list[NewTensor]:
    """Tensors as a GGUF file would have them, but for the order of rows.

    Raises
    ------
    ModelError
        If there is one that the family does not have, or of a type that is not known here.
    """
    import gguf

    (kind,) = (kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == config.family.architecture)
    names = gguf.get_tensor_name_map(kind, config.layers)
    found = list(config.tensors)
    entries = _about_text(entries) if config.family.within else entries
    whole, experts = _stacks(entries)
    for name, parts in experts.items():
        found.append(_stacked(folder, name, _place(folder, config, names, name), parts))
    for name, entry in _matrices(config, whole):
        if _COMPUTED.search(name) or (name == _HEAD and config.tied):
            continue
        place = _place(folder, config, names, name)
        if config.packing is not None and name.removesuffix(_WEIGHT) + WORDS in entries:
            found.append(unpacked(folder, config.packing, name.removesuffix(_WEIGHT), place, entries))
        else:
            found.append(_tensor(folder, config, name, place, entry))
    return found


def _place(folder: Path, config: Configuration, names: Any, name: str) -> str:
    """GGUF's name of a tensor."""
    place = names.get_name(name, (".weight", ".bias"))
    if place is None:
        raise ModelError(
            f"{folder} can't be run: it has tensors that no other {config.family.model_type} model has that is known here,"
            f" such as {printable(name)}, so its results would be wrong"
        )
    return str(place)


def _stacks(entries: Mapping[str, Entry]) -> tuple[dict[str, Entry], dict[str, dict[int, Entry]]]:
    """Tensors that are whole, and those of experts, by the name that all experts together have, and by expert."""
    whole: dict[str, Entry] = {}
    experts: dict[str, dict[int, Entry]] = {}
    for name, entry in entries.items():
        if (match := _EXPERT.fullmatch(name)) is None:
            whole[name] = entry
        else:
            experts.setdefault(match["before"] + match["behind"], {})[int(match["number"])] = entry
    return whole, experts


def _stacked(folder: Path, name: str, place: str, parts: Mapping[int, Entry]) -> NewTensor:
    """The matrices of all experts as one tensor, whose rows are taken where they lie."""
    count = len(parts)
    first = parts.get(0)
    kinds = {(entry.kind, entry.shape) for entry in parts.values()}
    if first is None or set(parts) != set(range(count)) or len(kinds) > 1 or len(first.shape) != 2:
        raise ModelError(
            f"{folder} can't be used: {printable(name)} is not of experts 0 to {count - 1}, all of one type and shape"
        )
    each = [_numbers(folder, name, parts[n]) for n in range(count)]
    rows = first.shape[0]

    def taken(numbers: NDArray[np.int64]) -> NDArray[Any]:
        found = np.empty((len(numbers), each[0].shape[1]), each[0].dtype)
        for expert in np.unique(numbers // rows):
            chosen = numbers // rows == expert
            found[chosen] = each[expert][numbers[chosen] % rows]
        return found

    data = LazyRows(count * rows, each[0].shape[1], taken, each[0].dtype)
    return NewTensor(place, (count, *first.shape), first.kind, cast(NDArray[Any], data))


def _matrices(config: Configuration, entries: Mapping[str, Entry]) -> Iterator[tuple[str, Entry]]:
    """Yield tensors by the names that they have in models of plain numbers; of packed ones the words."""
    for name, entry in entries.items():
        module, dot, part = name.rpartition(".")
        packed = config.packing is not None and module + WORDS in entries and dot + part in (WORDS, ZEROS, SCALES, GROUPS)
        if not packed:
            yield name, entry
        elif dot + part == WORDS:
            yield module + _WEIGHT, entry


def _tensor(folder: Path, config: Configuration, name: str, place: str, entry: Entry) -> NewTensor:
    data = _numbers(folder, name, entry)
    if config.family.norms_below_one and place.endswith("norm.weight"):
        numbers = dequantise(data, TENSOR_TYPE_NUMBERS[entry.kind]).reshape(entry.shape)
        return tensor_of(place, numbers + np.float32(1))
    return NewTensor(place, entry.shape, entry.kind, data)


def _numbers(folder: Path, name: str, entry: Entry) -> NDArray[Any]:
    """Plain numbers, as `tailrace.gguf.file.Tensor` has them."""
    if entry.kind not in _TYPES or not entry.shape:
        raise ModelError(
            f"{folder} can't be run: {printable(name)} has the type {entry.kind}, and of plain numbers {', '.join(_TYPES)}"
            " are known here: get the model in another format"
        )
    if entry.kind in PLAIN:
        return entry.octets.view(PLAIN[entry.kind]).reshape(entry.shape)
    return entry.octets.reshape(prod(entry.shape[:-1]), -1)
