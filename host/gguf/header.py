"""A walk through the header of a GGUF file that checks every length against the file before anything relies on it.

The `gguf` package, which reads the file afterwards, follows a damaged length wherever it leads.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from pathlib import Path

from tailrace.spec.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
#: Bytes of each scalar value type.
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_MAX_DIMENSIONS = 4


def check_header(path: Path) -> None:
    """Check that a file is GGUF with a header that is whole and consistent.

    Raises
    ------
    ModelError
        If the file is missing, not GGUF, of another version or byte order, or its header is damaged or cut off.
    """
    if not path.exists():
        raise ModelError(f"{path} does not exist: give the path of a GGUF file, or 'smollm2' or 'shakespeare'")
    if not path.is_file():
        raise ModelError(f"{path} is not a file: give the path of a GGUF file")
    with path.open("rb") as file:
        start = file.read(8)
        if start[:4] != MAGIC:
            raise ModelError(
                f"{path} is not a GGUF file: convert the model, for example with llama.cpp's convert_hf_to_gguf.py"
            )
        version = int.from_bytes(start[4:8], "little")
        if version not in VERSIONS:
            if int.from_bytes(start[4:8], "big") in VERSIONS:
                raise ModelError(f"{path} is big endian, and this reads little endian only: convert the model again")
            raise ModelError(
                f"{path} has GGUF version {version}, and this reads {' and '.join(map(str, VERSIONS))}: convert the model again"
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                _walk(data)
            except struct.error:
                raise ModelError(
                    f"{path} is truncated: its header goes on after the end of the file. Download it again."
                ) from None
            except _CorruptError as error:
                raise ModelError(f"{path} is corrupt: {error}. Download it again.") from None


class _CorruptError(Exception):
    """What is wrong with the header."""


def _walk(data: mmap.mmap) -> None:
    tensors, values = struct.unpack_from("<QQ", data, 8)
    position = 24
    for index in range(values):
        name, position = _string(data, position, f"the name of metadata value {index}")
        (kind,) = struct.unpack_from("<I", data, position)
        position = _skip_value(data, position + 4, kind, name)
    for index in range(tensors):
        name, position = _string(data, position, f"the name of tensor {index}")
        (dimensions,) = struct.unpack_from("<I", data, position)
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise _CorruptError(f"tensor {name} has {dimensions} dimensions")
        shape = struct.unpack_from(f"<{dimensions}Q", data, position + 4)
        elements = 1
        for size in shape:
            elements *= size
        if not 0 < elements < 1 << 48:
            raise _CorruptError(f"tensor {name} has the shape {list(shape)}")
        struct.unpack_from("<IQ", data, position + 4 + 8 * dimensions)
        position += 4 + 8 * dimensions + 12


def _skip_value(data: mmap.mmap, position: int, kind: int, name: str) -> int:
    if kind in _SCALARS:
        end = position + _SCALARS[kind]
    elif kind == _STRING:
        return _string(data, position, f"the text of {name}")[1]
    elif kind == _ARRAY:
        inner, count = struct.unpack_from("<IQ", data, position)
        end = position + 12
        if inner == _STRING:
            for _ in range(count):
                (length,) = struct.unpack_from("<Q", data, end)
                end += 8 + length
                if end > len(data):
                    raise struct.error(name)
        elif inner in _SCALARS:
            end += count * _SCALARS[inner]
        else:
            raise _CorruptError(f"metadata value {name} is an array of the unknown type {inner}")
    else:
        raise _CorruptError(f"metadata value {name} has the unknown type {kind}")
    if end > len(data):
        raise struct.error(name)
    return end


def _string(data: mmap.mmap, position: int, what: str) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, position)
    end = position + 8 + length
    if end > len(data):
        raise struct.error(what)
    try:
        return data[position + 8 : min(end, position + 8 + 512)].decode(), end
    except UnicodeDecodeError:
        return what, end
