"""The header of a GGUF file: lengths are checked before anything relies on them, values when they are asked for.

This is the only way to the metadata of a model. A value is decoded when it is asked for, with the type and the range that the
caller can use; whatever else is there is a `ModelError` that names file, key, what was found and what was expected. Opening a
header takes memory for the names in it (at most `MAX_VALUES` and `MAX_TENSORS` of them) and nothing else; a value takes at
most eight times its size in the file as numbers, and as text what its strings take in Python.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ModelError

from .printable import printable, shortened
from .stamp import Stamp
from .types import ARRAY, BOOLEAN, INTEGERS, REALS, SCALARS, TENSOR_TYPES, TEXT

MAGIC = b"GGUF"
VERSIONS = (2, 3)
#: More than any model has; each of them takes a few hundred bytes of memory.
MAX_VALUES, MAX_TENSORS = 1 << 16, 1 << 16
#: Bytes of a name, as ggml's documentation and its reader have it.
MAX_KEY, MAX_TENSOR_NAME = (1 << 16) - 1, 64
_MAX_DIMENSIONS = 4
#: Bytes of the smallest entry: name, type and value; name, dimensions, one size, type and offset.
_LEAST_VALUE, _LEAST_TENSOR = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8
_DEFAULT_ALIGNMENT = 32
_START = 24
_SIZE, _NUMBER, _ARRAY_HEAD, _PLACE = struct.Struct("<Q"), struct.Struct("<I"), struct.Struct("<IQ"), struct.Struct("<IQ")


@dataclass(frozen=True)
class TensorEntry:
    """What the header says of a tensor.

    Attributes
    ----------
    name : str
    ggml_type : int
        A key of `TENSOR_TYPES`.
    shape : tuple of int
        Rows first.
    start, end : int
        Its bytes in the file.
    """

    name: str
    ggml_type: int
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class _Value:
    """Where a value lies: its type (of an array, that of its items), first byte, and the number of items of an array."""

    kind: int
    position: int
    count: int | None = None


class _CorruptError(Exception):
    """What is wrong with the header."""


class Header:
    """The header of a GGUF file.

    Parameters
    ----------
    path : Path
    octets : bytes or None
        A header that stands for what is at the path and has none; None: the file itself.

    Attributes
    ----------
    path : Path
    stamp : Stamp
        What tells the file from another one.
    data : ndarray of uint8
        The file, mapped; or the header.
    version : int
    tensors : tuple of TensorEntry
        In the order of the header.

    Raises
    ------
    ModelError
        If the file is not GGUF of a version and byte order that is known here, or its header is damaged or cut off, or tensors
        overlap or do not lie in the file.
    """

    def __init__(self, path: Path, octets: bytes | None = None) -> None:
        self.path = path
        self._asked: set[str] = set()
        self._values: dict[str, _Value] = {}
        self.data: NDArray[np.uint8]
        if octets is None:
            with path.open("rb") as file:
                self.stamp = Stamp.of(path, os.fstat(file.fileno()))
                self.version = self._version(file.read(_START))
                self.data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        else:
            self.stamp = Stamp.of(path, path.stat())
            self.version = self._version(octets)
            self.data = np.frombuffer(octets, np.uint8)
        self._view = self.data.data
        try:
            position, found = self._walk()
            self.tensors = self._placed(position, found)
        except struct.error:
            raise ModelError(f"{path} is truncated: its header goes on after the end of the file. Download it again.") from None
        except _CorruptError as error:
            raise ModelError(f"{path} is corrupt: {error}. Download it again.") from None

    @property
    def head(self) -> NDArray[np.uint8]:
        """All bytes before the first tensor."""
        return self.data[: min((entry.start for entry in self.tensors), default=len(self.data))]

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    # The values.

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`; without a default, it must be there."""
        if default is not None and not self._has(key):
            return default
        value = self._scalar(key, INTEGERS, expected := f"a whole number from {low} to {high}")
        if not low <= value <= high:
            raise self.unexpected(key, expected)
        return int(value)

    def real(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number from `low` to `high`; without a default, it must be there."""
        if default is not None and not self._has(key):
            return default
        value = float(self._scalar(key, INTEGERS | REALS, expected := f"a number from {low:g} to {high:g}"))
        if not (math.isfinite(value) and low <= value <= high):
            raise self.unexpected(key, expected)
        return value

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """True or false; without a default, it must be there."""
        if default is not None and not self._has(key):
            return default
        return bool(self._scalar(key, {BOOLEAN}, "true or false"))

    def text(self, key: str, default: str | None = None) -> str:
        """A text; without a default, it must be there."""
        if default is not None and not self._has(key):
            return default
        value = self._value(key)
        if value.kind != TEXT or value.count is not None:
            raise self.unexpected(key, "a text")
        return self._decoded(key, self._bytes(value.position)[0])

    def integers(
        self, key: str, low: int, high: int, *, count: int | None = None, default: Sequence[int] | None = None
    ) -> NDArray[np.int64]:
        """An array of whole numbers from `low` to `high`, `count` of them if that is given."""
        if default is not None and not self._has(key):
            return np.array(default, dtype=np.int64)
        expected = f"an array of {_items(count)}whole numbers from {low} to {high}"
        items = self._items(key, INTEGERS, count, expected)
        if len(items) and (int(items.min()) < low or int(items.max()) > high):
            raise self.unexpected(key, expected, _first(items, (items < low) | (items > high)))
        return items.astype(np.int64)

    def reals(
        self, key: str, low: float, high: float, *, count: int | None = None, default: Sequence[float] | None = None
    ) -> NDArray[np.float64]:
        """An array of finite numbers from `low` to `high`, `count` of them if that is given."""
        if default is not None and not self._has(key):
            return np.array(default, dtype=np.float64)
        expected = f"an array of {_items(count)}numbers from {low:g} to {high:g}"
        items = self._items(key, INTEGERS | REALS, count, expected).astype(np.float64)
        bad = ~((items >= low) & (items <= high) & np.isfinite(items))
        if bad.any():
            raise self.unexpected(key, expected, _first(items, bad))
        return items

    def booleans(self, key: str, *, count: int | None = None, default: Sequence[bool] | None = None) -> NDArray[np.bool_]:
        """An array of truth values, `count` of them if that is given."""
        if default is not None and not self._has(key):
            return np.array(default, dtype=np.bool_)
        return self._items(key, {BOOLEAN}, count, f"an array of {_items(count)}truth values").astype(np.bool_)

    def texts(self, key: str, *, count: int | None = None, default: Sequence[str] | None = None) -> list[str]:
        """An array of texts, `count` of them if that is given."""
        if default is not None and not self._has(key):
            return list(default)
        value = self._value(key)
        if value.kind != TEXT or value.count is None or count not in (None, value.count):
            raise self.unexpected(key, f"an array of {_items(count)}texts")
        view, position, texts = self._view, value.position, []
        unpack, decode = _SIZE.unpack_from, str
        try:
            for _ in range(value.count):
                start = position + 8
                position = start + unpack(view, position)[0]
                texts.append(decode(view[start:position], "utf-8"))
        except UnicodeDecodeError:
            raise self._damaged_text(f"item {len(texts)} of {key}") from None
        return texts

    def per_layer(self, key: str, low: int, high: int, layers: int, default: int | None = None) -> tuple[int, ...]:
        """A whole number for each layer: one that holds for all, or an array of as many as there are layers."""
        if self.is_array(key):
            return tuple(map(int, self.integers(key, low, high, count=layers)))
        return (self.integer(key, low, high, default),) * layers

    def is_array(self, key: str) -> bool:
        """Whether there is such a value, and it is an array."""
        return self._has(key) and self._values[key].count is not None

    def is_neutral(self, key: str) -> bool:
        """Whether a value is zero, false, or empty."""
        value = self._values[key]
        if value.kind == TEXT:
            return value.count == 0 if value.count is not None else not self._bytes(value.position)[0]
        return not self._numbers(value).any()

    def is_any_of(self, key: str, values: Sequence[float]) -> bool:
        """Whether a value is one of these numbers, to the precision of float32; true is 1."""
        value = self._values[key]
        return (
            value.kind != TEXT
            and value.count is None
            and bool(np.isin(np.float32(self._numbers(value)[0]), np.array(values, np.float32)))
        )

    def shown(self, key: str) -> str:
        """A value as a message has it."""
        value = self._values[key]
        if value.count is not None:
            return f"an array of {value.count} {'texts' if value.kind == TEXT else 'numbers'}"
        if value.kind == TEXT:
            return f"'{shortened(bytes(self._bytes(value.position)[0][:400]).decode(errors='replace'))}'"
        number = self._numbers(value)[0]
        return str(bool(number)).lower() if value.kind == BOOLEAN else f"{number:g}" if value.kind in REALS else str(number)

    def unexpected(self, key: str, expected: str, found: str | None = None) -> ModelError:
        """What is to be said of a value that is not what was expected; `found`: more about what it is."""
        return ModelError(
            f"{self.path} can't be used: {key} in its header is {self.shown(key)}{found or ''}, and {expected} is expected."
            " Convert the model again."
        )

    def unasked(self, prefix: str) -> list[str]:
        """Keys that begin so and whose values nobody has asked for."""
        return [key for key in self._values if key.startswith(prefix) and key not in self._asked]

    def scalars(self) -> dict[str, Any]:
        """All values but arrays, unchecked."""
        found: dict[str, Any] = {}
        for key, value in self._values.items():
            if value.count is None and value.kind == TEXT:
                found[key] = bytes(self._bytes(value.position)[0]).decode(errors="replace")
            elif value.count is None:
                item = self._numbers(value)[0].item()
                found[key] = bool(item) if value.kind == BOOLEAN else item
        return found

    def _has(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._values

    def _value(self, key: str) -> _Value:
        if not self._has(key):
            raise ModelError(f"{self.path} is not a complete model: its header lacks {key}. Convert it again.")
        return self._values[key]

    def _scalar(self, key: str, kinds: set[int] | frozenset[int], expected: str) -> Any:
        value = self._value(key)
        if value.kind not in kinds or value.count is not None:
            raise self.unexpected(key, expected)
        return self._numbers(value)[0].item()

    def _items(self, key: str, kinds: set[int] | frozenset[int], count: int | None, expected: str) -> NDArray[Any]:
        value = self._value(key)
        if value.kind not in kinds or value.count is None or count not in (None, value.count):
            raise self.unexpected(key, expected)
        return self._numbers(value)

    def _numbers(self, value: _Value) -> NDArray[Any]:
        """The items of an array, or the one of a scalar, as they lie in the file."""
        return np.frombuffer(self.data, SCALARS[value.kind], 1 if value.count is None else value.count, value.position)

    def _bytes(self, position: int) -> tuple[memoryview, int]:
        """A string, and where it ends."""
        (length,) = _SIZE.unpack_from(self._view, position)
        end = position + 8 + length
        if end > len(self._view):
            raise struct.error
        return self._view[position + 8 : end], end

    def _decoded(self, key: str, raw: memoryview) -> str:
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError:
            raise self._damaged_text(key) from None

    def _damaged_text(self, what: str) -> ModelError:
        return ModelError(f"{self.path} is corrupt: {what} is not text in UTF-8. Download it again.")

    # The walk.

    def _version(self, start: bytes) -> int:
        if start[:4] != MAGIC:
            raise ModelError(
                f"{self.path} is not a GGUF file: convert the model, for example with llama.cpp's convert_hf_to_gguf.py"
            )
        if len(start) < _START:
            raise ModelError(f"{self.path} is truncated: its header goes on after the end of the file. Download it again.")
        version = int.from_bytes(start[4:8], "little")
        if version in VERSIONS:
            return version
        if int.from_bytes(start[4:8], "big") in (1, *VERSIONS):
            raise ModelError(f"{self.path} is big endian, and this reads little endian only: convert the model again")
        raise ModelError(
            f"{self.path} has GGUF version {version}, and this reads {' and '.join(map(str, VERSIONS))}: convert the model"
            " again"
        )

    def _walk(self) -> tuple[int, list[tuple[str, int, tuple[int, ...], int]]]:
        """Note where the values lie, and read the list of tensors: name, type, shape, offset. Return its end, too."""
        view = self._view
        (tensors, values) = struct.unpack_from("<QQ", view, 8)
        for what, count, most, least in (
            ("values", values, MAX_VALUES, _LEAST_VALUE),
            ("tensors", tensors, MAX_TENSORS, _LEAST_TENSOR),
        ):
            if count > most:
                raise _CorruptError(f"its header speaks of {count} {what}")
            if count * least > len(view) - _START:
                raise struct.error
        position = _START
        for index in range(values):
            name, position = self._name(position, f"the name of value {index}", MAX_KEY)
            (kind,) = _NUMBER.unpack_from(view, position)
            if name in self._values:
                raise _CorruptError(f"its header has {printable(name)} twice")
            self._values[name], position = self._located(position + 4, kind, name)
        found, names = [], set()
        for index in range(tensors):
            name, position = self._name(position, f"the name of tensor {index}", MAX_TENSOR_NAME)
            if name in names:
                raise _CorruptError(f"it has two tensors of the name {printable(name)}")
            names.add(name)
            (dimensions,) = _NUMBER.unpack_from(view, position)
            if not 1 <= dimensions <= _MAX_DIMENSIONS:
                raise _CorruptError(f"tensor {printable(name)} has {dimensions} dimensions")
            shape = struct.unpack_from(f"<{dimensions}Q", view, position + 4)
            if not 0 < math.prod(shape) < 1 << 48:
                raise _CorruptError(f"tensor {printable(name)} has the shape {list(shape)}")
            kind, offset = _PLACE.unpack_from(view, position + 4 + 8 * dimensions)
            found.append((name, kind, shape[::-1], offset))
            position += 4 + 8 * dimensions + 12
        return position, found

    def _name(self, position: int, what: str, most: int) -> tuple[str, int]:
        raw, end = self._bytes(position)
        if len(raw) > most:
            raise _CorruptError(f"{what} has {len(raw)} bytes, and names have up to {most}")
        try:
            return str(raw, "utf-8"), end
        except UnicodeDecodeError:
            raise _CorruptError(f"{what} is not text in UTF-8") from None

    def _located(self, position: int, kind: int, name: str) -> tuple[_Value, int]:
        """Where a value lies, and where it ends."""
        if kind == TEXT:
            return _Value(TEXT, position), self._bytes(position)[1]
        if kind in SCALARS:
            value, end = _Value(kind, position), position + SCALARS[kind].itemsize
        elif kind == ARRAY:
            inner, count = _ARRAY_HEAD.unpack_from(self._view, position)
            value, end = _Value(inner, position + 12, count), position + 12
            if inner == TEXT:
                end = self._after_strings(end, count)
            elif inner in SCALARS:
                end += count * SCALARS[inner].itemsize
            else:
                raise _CorruptError(f"{printable(name)} is an array of the unknown type {inner}")
        else:
            raise _CorruptError(f"{printable(name)} has the unknown type {kind}")
        if end > len(self._view):
            raise struct.error
        return value, end

    def _after_strings(self, position: int, count: int) -> int:
        view, size, unpack = self._view, len(self._view), _SIZE.unpack_from
        if count > (size - position) // 8:
            raise struct.error
        for _ in range(count):
            # Behind the end of the file, there is nothing to unpack.
            position += 8 + unpack(view, position)[0]
            if position > size:
                raise struct.error
        return position

    def _placed(self, position: int, found: list[tuple[str, int, tuple[int, ...], int]]) -> tuple[TensorEntry, ...]:
        """Where the tensors lie, whose list ends at `position`."""
        alignment = self.integer("general.alignment", 1, 1 << 30, _DEFAULT_ALIGNMENT)
        if alignment & (alignment - 1):
            raise self.unexpected("general.alignment", "a power of two")
        base, size = -(-position // alignment) * alignment, len(self._view)
        entries = []
        for name, kind, shape, offset in found:
            shown = printable(name)
            if kind not in TENSOR_TYPES:
                raise ModelError(
                    f"{self.path}: {shown} has the unknown tensor type {kind}: the file is damaged, or newer than this version"
                    " of Tailrace"
                )
            t = TENSOR_TYPES[kind]
            if shape[-1] % t.elements:
                raise _CorruptError(f"the rows of {shown} have {shape[-1]} elements, not whole blocks of {t.elements}")
            if offset % alignment:
                raise _CorruptError(f"{shown} begins at byte {offset} of the tensors, which is no multiple of {alignment}")
            start = base + offset
            end = start + math.prod(shape) // t.elements * t.bytes
            if end > size:
                raise ModelError(
                    f"{self.path} is truncated: {shown} ends at byte {end}, but the file has {size}. Download it again."
                )
            entries.append(TensorEntry(name, kind, shape, start, end))
        ordered = sorted(entries, key=lambda entry: entry.start)
        for left, right in zip(ordered, ordered[1:], strict=False):
            if right.start < left.end:
                raise _CorruptError(f"{printable(left.name)} and {printable(right.name)} overlap")
        return tuple(entries)


def _items(count: int | None) -> str:
    return "" if count is None else f"{count} "


def _first(items: NDArray[Any], bad: NDArray[np.bool_]) -> str:
    index = int(np.flatnonzero(bad)[0])
    return f" of which number {index} is {items[index]:g}"
