"""The safetensors files of a checkpoint: where each tensor lies, checked against the files before anything relies on it.

Source: https://huggingface.co/docs/safetensors/index, and the index that transformers writes beside several files.
"""

import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ModelError

from ..printable import printable
from ..stamp import Stamp
from .json_file import Values

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
#: Bits of an element of each type.
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16,
    "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
#: As the format's own reader has it.
_MAX_HEADER = 100_000_000
_MAX_ELEMENTS = 1 << 48
_METADATA = "__metadata__"


@dataclass(frozen=True, eq=False)
class Entry:
    """A tensor of a safetensors file.

    Attributes
    ----------
    kind : str
        The format's name of its type.
    shape : tuple of int
        Rows first.
    octets : ndarray of uint8
        Its bytes, in the mapped file.
    """

    kind: str
    shape: tuple[int, ...]
    octets: NDArray[np.uint8]


def open_shards(folder: Path) -> tuple[dict[str, Entry], tuple[Stamp, ...]]:
    """The tensors of a checkpoint by their names, and the stamps of their files.

    Raises
    ------
    ModelError
        If files or tensors are missing, or a file is damaged.
    """
    found: dict[str, Entry] = {}
    stamps: list[Stamp] = []
    index = folder / INDEX
    if not index.exists():
        path = _single(folder)
        return dict(_entries(path, stamps)), tuple(stamps)
    wanted = Values.read(index).inner("weight_map")
    places = {name: wanted.text(name) for name, _ in list(wanted.unasked())}
    paths = [folder / name for name in sorted(set(places.values()))]
    for path in paths:
        if path.parent != folder:
            raise ModelError(f"{index} is corrupt: it names {printable(path.name)}, which is not in its folder")
    missing = [path for path in paths if not path.exists()]
    if missing or not paths:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        what = f"{printable(missing[0].name)}{more}" if missing else "model.safetensors"
        raise ModelError(f"{folder} lacks {what}, which {INDEX} speaks of: download all files into one folder")
    for path in paths:
        found |= {name: entry for name, entry in _entries(path, stamps) if places.get(name) == path.name}
    lost = min((name for name in places if name not in found), default=None)
    if lost is not None:
        raise ModelError(f"{folder / places[lost]} lacks {printable(lost)}, which {INDEX} says is in it: download it again")
    return found, tuple(stamps)


def _single(folder: Path) -> Path:
    if (folder / SINGLE).exists():
        return folder / SINGLE
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return others[0]
    if others:
        raise ModelError(
            f"{folder} has {len(others)} safetensors files and lacks {INDEX}, which says what is in them: download that too"
        )
    if any(folder.glob("*.bin")) or any(folder.glob("*.pth")):
        raise ModelError(
            f"{folder} has its weights as PyTorch pickles, which can run anything when they are read: save it with"
            " transformers' save_pretrained, which writes safetensors"
        )
    raise ModelError(f"{folder} lacks {SINGLE}: download all files of the model into one folder")


def _entries(path: Path, stamps: list[Stamp]) -> Iterator[tuple[str, Entry]]:
    """Yield what a file holds; note its stamp."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        stamps.append(Stamp.of(path, status))
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or 8 + length > status.st_size:
            raise ModelError(f"{path} is truncated: its header goes on after the end of the file. Download it again.")
        if length > _MAX_HEADER:
            raise ModelError(f"{path} is corrupt: its header has {length} bytes. Download it again.")
        try:
            header = json.loads(file.read(length), object_pairs_hook=lambda pairs: _once(path, pairs))
        except (ValueError, RecursionError):
            raise ModelError(f"{path} is corrupt: its header is not JSON. Download it again.") from None
        data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)[8 + length :]
    if not isinstance(header, dict):
        raise ModelError(f"{path} is corrupt: its header is no object. Download it again.")
    places = []
    for name, entry in header.items():
        if name != _METADATA:
            kind, shape, start_at, end = _placed(path, name, entry, len(data))
            places.append((start_at, end, name))
            yield name, Entry(kind, shape, data[start_at:end])
    ordered = sorted(places)
    for left, right in zip(ordered, ordered[1:], strict=False):
        if right[0] < left[1]:
            raise ModelError(f"{path} is corrupt: {printable(left[2])} and {printable(right[2])} overlap. Download it again.")


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ModelError(f"{path} is corrupt: its header has a name twice. Download it again.")
    return found


def _placed(path: Path, name: str, entry: Any, size: int) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, and where the bytes of a tensor lie among so many."""
    said: dict[str, Any] = entry if isinstance(entry, dict) else {}
    kind, shape, offsets = said.get("dtype"), said.get("shape"), said.get("data_offsets")
    if not isinstance(kind, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ModelError(f"{path} is corrupt: its header does not say what {printable(name)} is. Download it again.")
    if kind not in _BITS:
        raise ModelError(f"{path} can't be used: {printable(name)} has the type {printable(kind)}, which is not known here")
    start, end = offsets
    elements = prod(shape)
    if elements > _MAX_ELEMENTS or 8 * (end - start) != elements * _BITS[kind]:
        raise ModelError(
            f"{path} is corrupt: {printable(name)} has {end - start} bytes for its shape {shape}. Download it again."
        )
    if end > size:
        raise ModelError(f"{path} is truncated: {printable(name)} ends at byte {end} of {size}. Download it again.")
    return kind, tuple(shape), start, end


def _are_sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and len(values) <= 8 and all(type(v) is int and 0 <= v < _MAX_ELEMENTS for v in values)
