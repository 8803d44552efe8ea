"""Writes GGUF files: models that are made here, and those of tests. The bytes are those that the `gguf` package would write."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .header import MAGIC
from .quantisation import quantise
from .types import ARRAY, BOOLEAN, PLAIN, SCALARS, TENSOR_TYPE_NUMBERS, TENSOR_TYPES, TEXT

VERSION = 3
_ALIGNMENT = 32
_KINDS = {dtype: kind for kind, dtype in SCALARS.items() if kind != BOOLEAN}
_UINT32, _INT32, _UINT64, _INT64, _FLOAT32 = 4, 5, 10, 11, 6


@dataclass(frozen=True)
class NewTensor:
    """A tensor to be written.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Rows first.
    type_name : str
        ggml's name of its type.
    data : ndarray or None
        Its bytes as the file is to have them, in whatever type of numbers. None: a hole, which reads as zeros.
    """

    name: str
    shape: tuple[int, ...]
    type_name: str
    data: NDArray[Any] | None = None

    @property
    def bytes(self) -> int:
        """Bytes in the file.

        Raises
        ------
        ValueError
            If its rows are no whole blocks.
        """
        kind = TENSOR_TYPES[TENSOR_TYPE_NUMBERS[self.type_name]]
        if self.shape[-1] % kind.elements:
            raise ValueError(f"rows of {self.name} have {self.shape[-1]} elements, not whole blocks of {kind.elements}")
        return prod(self.shape) // kind.elements * kind.bytes


def tensor_of(name: str, numbers: NDArray[Any], type_name: str = "F32") -> NewTensor:
    """A tensor of numbers: plain ones, or blocks that they are quantised to.

    Parameters
    ----------
    name : str
    numbers : ndarray of float, rows first
    type_name : str
        One of plain numbers, or one that the `gguf` package quantises to.
    """
    if type_name in PLAIN:
        data: NDArray[Any] = numbers.astype(PLAIN[type_name])
    else:
        data = quantise(np.ascontiguousarray(numbers, dtype=np.float32), TENSOR_TYPE_NUMBERS[type_name])
    return NewTensor(name, numbers.shape, type_name, data)


def write_gguf(path: Path, architecture: str | None, values: Mapping[str, Any], tensors: Iterable[NewTensor]) -> Path:
    """Write a file.

    Parameters
    ----------
    path : Path
    architecture : str or None
        ``general.architecture``; None leaves it out.
    values : mapping of str to object
        The rest of the header: truth values, texts, whole numbers (32 bits if they fit), floats (float32), lists of these, or
        numpy's numbers and arrays, whose type is kept. ``general.alignment`` is obeyed.
    tensors : iterable of NewTensor

    Returns
    -------
    Path
        The same.
    """
    tensors = list(tensors)
    values = values if architecture is None else {"general.architecture": architecture, **values}
    alignment = int(values.get("general.alignment", _ALIGNMENT))
    header = bytearray(header_octets(values, len(tensors)))
    offsets, offset = [], 0
    for tensor in tensors:
        header += _text(tensor.name) + struct.pack("<I", len(tensor.shape))
        header += struct.pack(f"<{len(tensor.shape)}Q", *reversed(tensor.shape))
        header += struct.pack("<IQ", TENSOR_TYPE_NUMBERS[tensor.type_name], offset)
        offsets.append(offset)
        offset += _padded(tensor.bytes, alignment)
    start = _padded(len(header), alignment)
    with path.open("wb") as file:
        file.write(header)
        for tensor, place in zip(tensors, offsets, strict=True):
            if tensor.data is not None:
                file.seek(start + place)
                file.write(np.ascontiguousarray(tensor.data).data)
        file.truncate(start + offset)
    return path


def header_octets(values: Mapping[str, Any], tensors: int = 0) -> bytes:
    """The header of a file up to its list of so many tensors; `values` as `write_gguf` takes them."""
    header = bytearray(MAGIC + struct.pack("<IQQ", VERSION, tensors, len(values)))
    for key, value in values.items():
        header += _text(key) + _value(value)
    return bytes(header)


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", TEXT) + _text(value)
    if isinstance(value, np.ndarray):
        kind = _kind(value.dtype)
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + value.astype(SCALARS[kind]).tobytes()
    if isinstance(value, Sequence):
        return _list(value)
    if isinstance(value, np.generic):
        kind = _kind(value.dtype)
    elif isinstance(value, bool):
        kind = BOOLEAN
    elif isinstance(value, int):
        kind = _UINT32 if 0 <= value < 1 << 32 else _INT32 if -(1 << 31) <= value < 0 else _UINT64 if value > 0 else _INT64
    else:
        kind = _FLOAT32
    return struct.pack("<I", kind) + np.array(value).astype(SCALARS[kind]).tobytes()


def _list(items: Sequence[Any]) -> bytes:
    if items and isinstance(items[0], str):
        return struct.pack("<IIQ", ARRAY, TEXT, len(items)) + b"".join(map(_text, items))
    array = np.array(items)
    # As the gguf package has it: whole numbers of a list are signed.
    kind = BOOLEAN if array.dtype == np.bool_ else _INT32 if array.dtype.kind == "i" else _FLOAT32
    return struct.pack("<IIQ", ARRAY, kind, len(items)) + array.astype(SCALARS[kind]).tobytes()


def _kind(dtype: np.dtype[Any]) -> int:
    return BOOLEAN if dtype == np.bool_ else _KINDS[dtype]
