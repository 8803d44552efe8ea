"""Sessions in files: tokens and what the device has computed of them, as arrays without any code.

A file is a zip archive of numpy arrays (``.npz``). What is read from one is checked before it is believed.
"""

import hashlib
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tailrace.firmware.description import Attention, Keeper, LinearAttention
from tailrace.firmware.state_places import layout_of
from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BLOCK
from tailrace.spec.linear_attention import FOLD
from tailrace.spec.recent_rows import RecentRows

from ..device.decoder import Snapshot
from ..gguf.describe import ImportedModel
from ..image.kv_cache import StoredCache
from ..image.state import StoredState, stored_parts
from .whole_file import written_whole

#: Changes whenever older files can no longer be read.
_VERSION = 1
#: Bytes of each tensor that tell one model from another: so many pieces of so many bytes.
_PIECES, _PIECE_BYTES = 16, 256
#: What a header of an array takes at most.
_HEADER_BYTES = 4096
#: What zip archives, their compressions and numpy's headers raise where something is damaged.
_DAMAGES = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, KeyError, ValueError, TypeError, SyntaxError, EOFError, NotImplementedError,
    RuntimeError, OSError, struct.error, tokenize.TokenError,
)  # fmt: skip
_FIELDS = ("key_scales", "key_codes", "value_scales", "value_codes")


def fingerprint(imported: ImportedModel, quantise: str | None) -> str:
    """What tells models apart whose keys and values differ: of their weights, samples from each tensor.

    Parameters
    ----------
    imported : ImportedModel
    quantise : str or None
        What matrices of plain numbers have become.
    """
    digest = hashlib.sha256(f"{imported.description!r} {quantise}".encode())
    for name, rope in sorted(imported.ropes.items()):
        digest.update(name.encode() + np.asarray(rope.table(1, 1), "<f4").tobytes())
    if imported.growth:
        digest.update(repr(imported.growth).encode())
    for name, tensor in sorted(imported.model.tensors.items()):
        digest.update(f"{name} {tensor.type_name} {tensor.shape} ".encode())
        data = np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8)
        for first in np.linspace(0, max(data.size - _PIECE_BYTES, 0), _PIECES).astype(int):
            digest.update(data[first : first + _PIECE_BYTES].tobytes())
    return digest.hexdigest()


def write_session(path: Path, model: str, tokens: Sequence[int], snapshot: Snapshot | None, is_foreign: bool = False) -> None:
    """Write a session; the file is complete or as it was.

    Parameters
    ----------
    path : Path
    model : str
        `fingerprint`.
    tokens : sequence of int
    snapshot : Snapshot or None
        Of the first of them.
    is_foreign : bool
        Whether it was not computed by the device alone.

    Raises
    ------
    TailraceError
        If it can't be written.
    """
    length, earliest, begun = (0, 0, 0) if snapshot is None else (snapshot.length, snapshot.earliest, snapshot.begun)
    arrays: dict[str, Any] = {
        "tailrace_session": np.array([_VERSION, length, earliest], np.int64),
        "model": np.frombuffer(bytes.fromhex(model), np.uint8),
        "tokens": np.array(tokens, np.int64),
    }
    if begun:
        arrays["begun"] = np.array([begun], np.int64)
    if is_foreign:
        arrays["foreign"] = np.ones(1, np.int64)
    for n, held in enumerate(() if snapshot is None else snapshot.layers):
        parts = held.parts if isinstance(held, StoredState) else {field: getattr(held, field) for field in _FIELDS}
        arrays |= {f"layer_{n}_{name}": part for name, part in parts.items()}
    with written_whole(path) as file:
        np.savez(file, **arrays)


def read_session(path: Path, model: str, imported: ImportedModel) -> tuple[list[int], Snapshot | None, bool]:
    """Read a session: its tokens, what was computed of them, and whether that was not by the device alone.

    Parameters
    ----------
    path : Path
    model : str
        `fingerprint` of the model that it is read for.
    imported : ImportedModel

    Returns
    -------
    tuple of (list of int, Snapshot or None, bool)

    Raises
    ------
    ModelError
        If it is no session, damaged, or one of another model.
    """
    try:
        # A device or a pipe has no end.
        if path.exists() and not path.is_file():
            raise ValueError("it is not a file")
        with zipfile.ZipFile(path) as archive:
            is_foreign = "foreign.npy" in archive.namelist()
            return *_read(_Arrays(path, archive), path, model, imported), is_foreign
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist: give the path of a session that was saved") from None
    except _DAMAGES as error:
        raise ModelError(f"{path} is no session of tailrace, or is damaged: {error}") from error


class _Arrays:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive

    def has(self, name: str) -> bool:
        """Whether there is such an array."""
        return f"{name}.npy" in self._archive.namelist()

    def __call__(self, name: str, kind: str, shape: tuple[int, ...] | None, most: int = 0) -> Any:
        """An array of this type and shape; without a shape one of up to `most` numbers."""
        info = self._archive.getinfo(f"{name}.npy")
        wanted = np.dtype(kind)
        size = wanted.itemsize * (most if shape is None else int(np.prod(shape)))
        if info.file_size > size + _HEADER_BYTES:
            raise ValueError(f"{name} has {info.file_size} bytes")
        with self._archive.open(info) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{name} is an array of another version of the format")
            # Before anything is read of it, and room is made for that.
            is_shape, by_columns, kind_there = np.lib.format.read_array_header_1_0(file, _HEADER_BYTES)
            fits = len(is_shape) == 1 and 0 <= is_shape[0] <= most if shape is None else is_shape == shape
            if kind_there != wanted or not fits:
                raise ValueError(f"{name} has the type {kind_there} and the shape {is_shape}")
            data = file.read()
        if len(data) != wanted.itemsize * math.prod(is_shape):
            raise ValueError(f"{name} has {len(data)} bytes of numbers")
        found = np.frombuffer(data, wanted).reshape(is_shape, order="F" if by_columns else "C").copy()
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise ValueError(f"{name} has something that is not a number")
        return found


def _read(array: _Arrays, path: Path, model: str, imported: ImportedModel) -> tuple[list[int], Snapshot | None]:
    version, length, earliest = array("tailrace_session", "<i8", (3,)).tolist()
    if version != _VERSION:
        raise ModelError(f"{path} was saved by another version of tailrace: start the session anew")
    if array("model", "u1", (32,)).tobytes().hex() != model:
        raise ModelError(
            f"{path} was saved with another model than {imported.model.path}, or, if its angles depend on the context"
            " (LongRoPE), with another context: load it with what it was saved with"
        )
    tokens = array("tokens", "<i8", None, imported.model.context_length + 1).tolist()
    vocabulary = imported.description.vocabulary
    if not 0 <= length <= len(tokens) or not 0 <= earliest <= length or not all(0 <= t < vocabulary for t in tokens):
        raise ValueError("its numbers contradict each other")
    if not length:
        return tokens, None
    hidden = imported.description.hidden
    mixers = [mixer for _, mixer in imported.description.mixers]
    layers = tuple(
        _layer(array, n, mixer, length, hidden)
        if n < len(imported.description.layers) or not imported.description.draft_layer or array.has(_name_of_first(n, mixer))
        else _nothing(mixer, length, hidden)
        for n, mixer in enumerate(mixers)
    )
    begun = int(array("begun", "<i8", (1,))[0]) if array.has("begun") else 0
    has_states = any(isinstance(mixer, LinearAttention) for mixer in mixers)
    # A state that was computed elsewhere stands at any position, and nothing before it can be gone back to.
    if not 0 <= begun <= length or (has_states and (earliest < begun or length - begun // FOLD * FOLD > FOLD)):
        raise ValueError(f"its states are those of position {begun}")
    return tokens, Snapshot(length, earliest, layers, begun)


def _name_of_first(n: int, mixer: Keeper) -> str:
    """Name of the first array of what a layer keeps."""
    return f"layer_{n}_{_FIELDS[0] if isinstance(mixer, Attention) else 'rows'}"


def _nothing(mixer: Keeper, length: int, hidden: int) -> StoredCache | StoredState:
    """What a layer that drafts keeps where a session was computed without: it drafts worse, until the text has moved on."""
    if isinstance(mixer, Attention):
        return StoredCache.empty(mixer, length)
    parts = stored_parts(RecentRows(hidden, mixer.kernel))
    return StoredState({name: np.zeros(shape, kind) for name, (kind, shape) in parts.items()})


def _layer(array: _Arrays, n: int, attention: Keeper, length: int, hidden: int) -> StoredCache | StoredState:
    if not isinstance(attention, Attention):
        # How many lanes there are says nothing about what is kept.
        recent = RecentRows(hidden, attention.kernel)
        layout = layout_of(attention, 1) if isinstance(attention, LinearAttention) else recent
        parts = {name: array(f"layer_{n}_{name}", *part) for name, part in stored_parts(layout).items()}
        return StoredState(parts)
    heads, size, blocks = attention.kv_heads, attention.value_size, attention.head_blocks
    rows = length if attention.window is None else min(length, attention.window)
    return StoredCache(
        array(f"layer_{n}_key_scales", "<f2", (heads, rows, blocks)),
        array(f"layer_{n}_key_codes", "i1", (heads, rows, blocks, BLOCK)),
        array(f"layer_{n}_value_scales", "<f4", (heads, rows)),
        array(f"layer_{n}_value_codes", "i1", (heads, rows, size)),
    )
