"""Hand-over files (`tailrace.spec.handover`), opened and checked for their form."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tailrace.spec import handover as contract
from tailrace.spec.errors import MissingPackage, ModelError

from ..gguf.printable import shown

#: Bytes of a file's header: JSON, with a line for each tensor.
_HEADER_BYTES = 16 << 20


@dataclass(frozen=True)
class HandoverFile:
    """A hand-over file, of which nothing has been believed yet but its form.

    Attributes
    ----------
    path : Path
    metadata : dict of str to str
    entries : dict from name to dict
        What the header says of each tensor.
    data : ndarray of uint8
        What follows the header, as it lies in the file.
    """

    path: Path
    metadata: dict[str, str]
    entries: dict[str, Any]
    data: NDArray[np.uint8]

    def numbers(self, name: str, shape: tuple[int, ...], kinds: tuple[str, ...] = contract.KEY_TYPES) -> Any:
        """A tensor of this shape and one of these types: keys and values as float32, others as they are.

        Raises
        ------
        ModelError
            If it is another, or none, or has something that is not a number.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise damaged(self.path, f"it has no {name}")
        kind, found = entry["dtype"], tuple(entry["shape"])
        if kind not in kinds or found != shape:
            raise damaged(self.path, f"{name} is {kind} {found}, and not {' or '.join(kinds)} {shape}")
        first, end = entry["data_offsets"]
        raw = self.data[first:end]
        if kind == "BF16":
            # The upper half of a float32.
            numbers: Any = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            types = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
            numbers = raw.view(types[kind])
            numbers = numbers.astype(np.float32) if kind == "F16" else numbers
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            raise damaged(self.path, f"{name} has something that is not a number")
        return numbers.reshape(shape)

    def size(self, name: str) -> int:
        """Bytes of a tensor."""
        first, end = self.entries[name]["data_offsets"]
        return int(end - first)


def open_handover(path: Path) -> HandoverFile:
    """Open a file, and check its form, its version, and that no byte is missing.

    Raises
    ------
    ModelError
        If it is no such file, or damaged.
    MissingPackage
        If the package safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MissingPackage("safetensors", "to read hand-over files", "serve") from None
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"{path} is not a file: give the path of a hand-over file")
        # The library checks the header: that tensors lie one after the other, and that no byte is missing.
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _HEADER_BYTES:
                raise damaged(path, f"its header has {length} bytes")
            header = json.loads(file.read(length))
        data = np.memmap(path, np.uint8, "r", offset=8 + length)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist: it may have been used, or swept away; compute the prompt again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path, str(error)) from error
    metadata = header.pop("__metadata__", None) or {}
    if metadata.get("format") != contract.FORMAT:
        raise ModelError(f"{path} is no hand-over file: its metadata does not say {contract.FORMAT}")
    if metadata.get("version") != str(contract.VERSION):
        raise ModelError(
            f"{path} is a hand-over file of version {shown(metadata.get('version'))}, and {contract.VERSION} is read here: use"
            " one release of tailrace on both sides"
        )
    for name in contract.METADATA:
        if name not in metadata:
            raise damaged(path, f"its metadata does not say {name}")
    return HandoverFile(path, metadata, header, cast(Any, data))


def damaged(path: Path, reason: str) -> ModelError:
    """The error of a file whose content is wrong."""
    return ModelError(f"{path} is no hand-over file, or is damaged: {reason}")
