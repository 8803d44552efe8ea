"""A GGUF file, checked: its tensors as they are, and the facts about the model that the host needs."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BY_GGML_TYPE, Format, ScaleKind

from ..image.blocks import BlockFields
from .architectures import EMBEDDING, HEAD, Architecture, architecture_of, tensor_name
from .header import check_header

#: Types that are stored as plain numbers; they can be quantised when the user asks for it.
FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file.

    Attributes
    ----------
    name : str
    type_name : str
        ggml's name of its type.
    ggml_type : int
        ggml's number of its type.
    shape : tuple of int
        Rows first.
    data : ndarray
        What the file holds: uint8 of shape (rows, bytes of a row) for block formats, numbers for float32 and float16.
    """

    name: str
    type_name: str
    ggml_type: int
    shape: tuple[int, ...]
    data: NDArray[Any]

    @property
    def rows(self) -> int:
        """Rows of a matrix; 1 for a vector."""
        return int(np.prod(self.shape[:-1]))

    @property
    def columns(self) -> int:
        """Elements of a row."""
        return self.shape[-1]

    @property
    def bytes(self) -> int:
        """Bytes in the file."""
        return int(self.data.nbytes)

    @property
    def bits_per_weight(self) -> float:
        """Bits for each weight in the file, scales included."""
        return 8 * self.bytes / (self.rows * self.columns)

    @property
    def format(self) -> Format | None:
        """The weight format that a device may read it in, or None."""
        return BY_GGML_TYPE.get(self.ggml_type)

    def dequantised(self) -> NDArray[np.float32]:
        """Weights as float32, as the `gguf` package computes them, shape (rows, columns)."""
        import gguf

        return gguf.dequantize(self.data, gguf.GGMLQuantizationType(self.ggml_type)).reshape(self.rows, self.columns)

    def quantised(self, fmt: Format) -> "Tensor":
        """A copy in a block format.

        Raises
        ------
        ModelError
            If a row is not a whole number of blocks.
        """
        import gguf

        if self.columns % fmt.file_elements:
            raise ModelError(
                f"{self.name} can't become {fmt.name}: its rows of {self.columns} elements are not whole blocks of"
                f" {fmt.file_elements}"
            )
        kind = gguf.GGMLQuantizationType(fmt.ggml_type)
        return Tensor(self.name, fmt.name, fmt.ggml_type, self.shape, gguf.quantize(self.dequantised(), kind))

    def check_finite(self) -> None:
        """Check that every scale and minimum, or every number, is finite.

        Raises
        ------
        ModelError
            If one is not: the file is damaged, or was quantised from damaged weights.
        """
        if self.format is not None:
            blocks = self.data.reshape(self.rows, -1, self.format.file_bytes)
            scales = np.ascontiguousarray(blocks[..., BlockFields.of(self.format).scale])
            what = "a scale or minimum"
            if self.format.scale_kind is ScaleKind.EXPONENT:
                # 255 is not a number (E8M0).
                numbers = np.where(scales == 255, np.float32(np.nan), np.float32(0))
            else:
                # The 6-bit subscales of a superblock, behind its two float16, are always finite.
                numbers = scales.view("<f2")[..., : 1 + self.format.has_minimum]
        elif self.data.dtype.kind == "f":
            numbers, what = self.data.reshape(self.rows, -1), "a value"
        elif self.type_name == "BF16":
            # The upper half of a float32.
            numbers = (self.data.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(self.rows, -1)
            what = "a value"
        else:
            return
        bad = ~np.isfinite(numbers)
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise ModelError(
                f"{self.name} is damaged: {what} in row {row} is not finite. Download the model again, or quantise it again"
                " from its source."
            )


@dataclass(frozen=True)
class Model:
    """A GGUF file.

    Attributes
    ----------
    path : Path
    architecture : Architecture
    tensors : dict of str to Tensor
    metadata : dict of str to object
        The scalar values of the header.
    reader : gguf.GGUFReader
        The parsed file, for those who would parse it again.
    """

    path: Path
    architecture: Architecture
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    reader: Any = field(repr=False)

    def number(self, key: str) -> int:
        """A whole number of the header, by its name without the architecture.

        Raises
        ------
        ModelError
            If the file does not have it.
        """
        value = self.metadata.get(f"{self.architecture.name}.{key}")
        if not isinstance(value, int):
            raise ModelError(
                f"{self.path} is not a complete model: its header lacks {self.architecture.name}.{key}. Convert it again."
            )
        return value

    @cached_property
    def layers(self) -> int:
        """Transformer layers."""
        return self.number("block_count")

    @cached_property
    def context_length(self) -> int:
        """Positions that the model was trained for."""
        return self.number("context_length")

    @cached_property
    def head(self) -> Tensor:
        """The matrix of the output head: the embedding where the file has no other."""
        return self.tensors.get(HEAD) or self.tensors[EMBEDDING]

    @cached_property
    def experts(self) -> int:
        """Experts of a layer; 0 if the model has none."""
        return int(self.metadata.get(f"{self.architecture.name}.expert_count", 0))

    @cached_property
    def matrix_names(self) -> list[str]:
        """Names of the matrices of a decode step, in the order of their use, without those of experts."""
        if not self.architecture.known:
            return [name for name, t in self.tensors.items() if name.startswith("blk.") and len(t.shape) > 1]
        kinds = [m for m in self.architecture.matrices if not (self.experts and m.startswith("ffn_"))]
        return [tensor_name(layer, kind) for layer in range(self.layers) for kind in kinds]

    @property
    def matrices(self) -> list[Tensor]:
        """The matrices of a decode step, in the order of their use, without those of experts."""
        return [self.tensors[n] for n in self.matrix_names] + [self.head]


def open_model(path: Path | str) -> Model:
    """Open a GGUF file and check all that can be checked without reading the weights.

    Raises
    ------
    ModelError
        If the file is missing, damaged, cut off, in parts, or incomplete.
    """
    path = Path(path)
    check_header(path)
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        metadata = {
            name: value.contents()
            for name, value in reader.fields.items()
            if value.types and value.types[0] != gguf.GGUFValueType.ARRAY
        }
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, UnicodeDecodeError) as error:
        raise _diagnose(path, error) from error
    tensors = {}
    for t in reader.tensors:
        shape = tuple(int(n) for n in reversed(t.shape.tolist()))
        data = t.data.reshape(-1, t.data.shape[-1]) if t.data.dtype == np.uint8 else t.data
        tensors[t.name] = Tensor(t.name, t.tensor_type.name, int(t.tensor_type), shape, data)
    model = Model(path, architecture_of(str(metadata.get("general.architecture"))), tensors, metadata, reader)
    _check_complete(model)
    return model


def _diagnose(path: Path, error: Exception) -> ModelError:
    """Say what is wrong with a file that the `gguf` package gave up on: walk the tensors again, one by one."""
    import gguf

    class Extents(gguf.GGUFReader):
        def _build_tensors(self, start_offs: int, fields: list[Any]) -> None:
            for info in fields:
                _, name, _, shape, kind, place = info.parts
                name = bytes(name).decode(errors="replace")
                try:
                    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind[0])]
                except ValueError:
                    raise ModelError(
                        f"{name} has the unknown tensor type {kind[0]}: the file is damaged, or newer than this gguf package"
                    ) from None
                if int(shape[0]) % block:
                    raise ModelError(
                        f"{path} is corrupt: the rows of {name} have {shape[0]} elements, not whole blocks of {block}."
                        " Download it again."
                    )
                elements = 1
                for n in shape.tolist():
                    elements *= n
                end = start_offs + int(place[0]) + elements // block * size
                if end > len(self.data):
                    raise ModelError(
                        f"{path} is truncated: {name} ends at byte {end}, but the file has {len(self.data)}. Download it again."
                    )

    try:
        Extents(path)
    except ModelError as found:
        return found
    except Exception:  # whatever the package stumbles over, the message below is what the user needs
        pass
    return ModelError(f"{path} is corrupt: {error}. Download it again.")


def _check_complete(model: Model) -> None:
    path, arch = model.path, model.architecture.name
    parts = model.metadata.get("split.count", 0)
    if parts and parts > 1:
        raise ModelError(f"{path} is one of {parts} parts: join them with llama.cpp's `llama-gguf-split --merge`")
    if not 0 < model.layers <= len(model.tensors):
        raise ModelError(
            f"{path} is corrupt: its header speaks of {model.layers} layers, but it has {len(model.tensors)} tensors."
            " Download it again."
        )
    missing = [name for name in [*model.matrix_names, EMBEDDING] if name not in model.tensors]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"{path} is not a complete {arch} model: it lacks {missing[0]}{more}. Convert it again.")
