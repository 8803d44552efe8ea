"""The tensors of a checkpoint, by GGUF's names: views of the mapped files wherever the numbers are the same."""

import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import numpy as np

from tailrace.spec.errors import ModelError

from ..printable import printable
from ..quantisation import dequantise
from ..types import PLAIN, TENSOR_TYPE_NUMBERS
from ..writer import NewTensor, tensor_of
from .configuration import Configuration
from .packed import GROUPS, SCALES, WORDS, ZEROS, unpacked
from .shards import Entry

#: Types that GGUF has, too.
_NUMBERS = ("F32", "F16", "BF16")
#: What old versions have saved, and can be computed.
_COMPUTED = re.compile(r"\.rotary_emb\.inv_freq$|\.masked_bias$")
_WEIGHT = ".weight"
_HEAD = "lm_head.weight"


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
    for name, entry in _matrices(config, entries):
        if _COMPUTED.search(name) or (name == _HEAD and config.tied):
            continue
        place = names.get_name(name, (".weight", ".bias"))
        if place is None:
            raise ModelError(
                f"{folder} can't be run: it has tensors that no other {config.family.model_type} model has that is known here,"
                f" such as {printable(name)}, so its results would be wrong"
            )
        if config.packing is not None and name.removesuffix(_WEIGHT) + WORDS in entries:
            found.append(unpacked(folder, config.packing, name.removesuffix(_WEIGHT), place, entries))
        else:
            found.append(_tensor(folder, config, name, place, entry))
    return found


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
    if entry.kind not in _NUMBERS or not entry.shape:
        raise ModelError(
            f"{folder} can't be run: {printable(name)} has the type {entry.kind}, and of plain numbers {', '.join(_NUMBERS)}"
            " are known here: get the model in another format"
        )
    if entry.kind in PLAIN:
        data = entry.octets.view(PLAIN[entry.kind]).reshape(entry.shape)
    else:
        data = entry.octets.reshape(prod(entry.shape[:-1]), -1)
    if config.family.norms_below_one and place.endswith("norm.weight"):
        numbers = dequantise(data, TENSOR_TYPE_NUMBERS[entry.kind]).reshape(entry.shape)
        return tensor_of(place, numbers + np.float32(1))
    return NewTensor(place, entry.shape, entry.kind, data)
