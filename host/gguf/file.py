"""A GGUF file, checked: its tensors as they are, and the facts about the model that the host needs."""

from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BY_GGML_TYPE, Format, ScaleKind

from .architectures import EMBEDDING, HEAD, Architecture, architecture_of, fitted, tensor_name
from .blocks import BlockFields
from .checkpoint.open import is_checkpoint, open_checkpoint
from .header import Header, TensorEntry
from .printable import printable, shown
from .quantisation import as_blocks, can_dequantise, dequantise
from .recognise import check_kind
from .split import open_parts
from .stamp import Stamp
from .types import PLAIN, TENSOR_TYPE_NUMBERS, TENSOR_TYPES
from .wider import WIDER
from .writer import NewTensor, header_octets

#: Types that are stored as plain numbers; they can be quantised when the user asks for it.
FLOATS = ("F32", "F16", "BF16")
#: The largest numbers that are read: whatever is above was never meant.
_MAX_LAYERS, _MAX_CONTEXT, _MAX_EXPERTS = (1 << 32) - 1, (1 << 31) - 1, 1 << 16


@dataclass(frozen=True, eq=False)
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
        What the file holds: uint8 of shape (rows, bytes of a row) for block formats and BF16, else its numbers. Blocks that a
        file packs in another way are made row by row, when they are asked for (`tailrace.gguf.checkpoint.lazy_rows`).
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
        """Weights as float32, as the `gguf` package computes them, shape (rows, columns).

        Raises
        ------
        ModelError
            If nothing here turns blocks of this type into numbers.
        """
        self.check_readable()
        return dequantise(np.asarray(self.data), self.ggml_type).reshape(self.rows, self.columns)

    def check_readable(self) -> None:
        """Check that the tensor can be turned into numbers.

        Raises
        ------
        ModelError
            If nothing here does that for its type.
        """
        if not can_dequantise(self.ggml_type):
            raise ModelError(
                f"{printable(self.name)} has the type {self.type_name}, which nothing here turns into numbers: get the model in"
                " another one"
            )

    def quantised(self, fmt: Format) -> "Tensor":
        """A copy in a block format, or in planes.

        Raises
        ------
        ModelError
            If a row is not a whole number of blocks.
        """
        if self.columns % fmt.file_elements:
            raise ModelError(
                f"{printable(self.name)} can't become {fmt.name}: its rows of {self.columns} elements are not whole blocks of"
                f" {fmt.file_elements}"
            )
        return Tensor(
            self.name,
            fmt.name,
            fmt.ggml_type,
            self.shape,
            as_blocks(np.asarray(self.data).reshape(self.rows, -1), self.ggml_type, fmt),
        )

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
            elif self.format.scale_kind is ScaleKind.FLOAT8:
                # 127 is not a number (E4M3), and there are no signs.
                numbers = np.where(scales >= 127, np.float32(np.nan), np.float32(0))
            else:
                # The 6-bit subscales of a superblock, behind its two float16, are always finite.
                numbers = scales.view("<f2")[..., : 1 + self.format.has_minimum]
        elif self.type_name in WIDER:
            size = TENSOR_TYPES[self.ggml_type].bytes
            blocks = self.data.reshape(self.rows, -1, size)
            numbers = WIDER[self.type_name].scales(blocks)
            what = "a scale or minimum"
        elif self.type_name in FLOATS:
            numbers, what = dequantise(np.asarray(self.data), self.ggml_type).reshape(self.rows, -1), "a value"
        else:
            return
        bad = ~np.isfinite(numbers)
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise ModelError(
                f"{printable(self.name)} is damaged: {what} in row {row} is not finite. Download the model again, or quantise"
                " it again from its source."
            )


@dataclass(frozen=True)
class Model:
    """A GGUF file.

    Attributes
    ----------
    path : Path
        Of a model in parts, that of the first.
    architecture : Architecture
    header : Header
    tensors : dict of str to Tensor
        Of a model in parts, those of all.
    parts : int
        Files that it lies in.
    stamps : tuple of Stamp
        Of these files; empty if it is not from files.
    """

    path: Path
    architecture: Architecture
    header: Header = field(repr=False)
    tensors: dict[str, Tensor]
    parts: int = 1
    stamps: tuple[Stamp, ...] = ()

    def key(self, name: str) -> str:
        """The key of a value that goes with the architecture, by its name without that."""
        return f"{self.architecture.name}.{name}"

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number of the header, by its name without the architecture.

        Raises
        ------
        ModelError
            If it is another value than one from `low` to `high`, or not there without a default.
        """
        return self.header.integer(self.key(name), low, high, default)

    @cached_property
    def blocks(self) -> int:
        """Transformer layers, and those behind them that predict further tokens."""
        blocks = self.integer("block_count", 0, _MAX_LAYERS)
        if not 0 < blocks <= len(self.tensors):
            raise ModelError(
                f"{self.path} is corrupt: its header speaks of {blocks} layers, but it has {len(self.tensors)} tensors."
                " Download it again."
            )
        return blocks

    @cached_property
    def layers(self) -> int:
        """Transformer layers, without those at the end that predict further tokens."""
        ahead = self.integer("nextn_predict_layers", 0, self.blocks - 1, 0) if self.architecture.predicts_ahead else 0
        return self.blocks - ahead

    @property
    def has_draft_layer(self) -> bool:
        """Whether a layer follows that drafts (multi-token prediction) as is known here: of a hybrid, with the model's head."""
        start, arch = f"blk.{self.layers}.nextn.", self.architecture
        names = {name.removeprefix(start) for name in self.tensors if name.startswith(start)}
        there = {"eh_proj.weight", "enorm.weight", "hnorm.weight"} <= names
        own = names & {"embed_tokens.weight", "shared_head_head.weight"}
        return arch.predicts_ahead and arch.linear_attention and self.blocks == self.layers + 1 and there and not own

    @cached_property
    def context_length(self) -> int:
        """Positions that the model was trained for."""
        return self.integer("context_length", 1, _MAX_CONTEXT)

    @cached_property
    def head(self) -> Tensor:
        """The matrix of the output head: the embedding where the file has no other."""
        name = HEAD if HEAD in self.tensors else EMBEDDING
        self._check_present([name])
        return self.tensors[name]

    @cached_property
    def experts(self) -> int:
        """Experts of a layer; 0 if the model has none."""
        return self.integer("expert_count", 0, _MAX_EXPERTS, 0)

    @cached_property
    def matrix_names(self) -> list[str]:
        """Names of the matrices of a decode step, in the order of their use, without those of experts."""
        if not self.architecture.known:
            return [name for name, t in self.tensors.items() if name.startswith("blk.") and len(t.shape) > 1]
        arch = self.architecture
        names = []
        for layer in range(self.layers):
            if arch.apart:
                kinds = tuple(k for k in (*arch.recurrent_matrices, *arch.matrices) if tensor_name(layer, k) in self.tensors)
                names += [tensor_name(layer, kind) for kind in dict.fromkeys(kinds)]
                continue
            recurrent = arch.recurrent_matrices and tensor_name(layer, "attn_q") not in self.tensors
            kinds = arch.recurrent_matrices if recurrent else arch.matrices
            names += [tensor_name(layer, kind) for kind in kinds if not (self._is_elsewhere(layer, kind))]
        return [name for name in names if not self._is_optional(name) or name in self.tensors]

    def _is_elsewhere(self, layer: int, kind: str) -> bool:
        """Whether a matrix belongs to experts, or to the layer whose keys and values a layer shares."""
        if self.experts and not self.architecture.experts_apart and kind.startswith("ffn_"):
            return True
        return layer >= self.first_shared and kind in ("attn_k", "attn_v")

    @cached_property
    def first_shared(self) -> int:
        """The first layer of those at the end that have the keys and values of earlier ones; `layers` if there are none."""
        if not self.architecture.shared_caches:
            return self.layers
        return self.layers - self.integer("attention.shared_kv_layers", 0, self.layers, 0)

    def _is_optional(self, name: str) -> bool:
        arch, matrix = self.architecture, name.split(".")[2]
        compressed = arch.latent_attention and matrix in ("attn_q", "attn_q_a", "attn_q_b")
        return compressed or (arch.optional_values and matrix == "attn_v")

    @property
    def matrices(self) -> list[Tensor]:
        """The matrices of a decode step, in the order of their use, without those of experts."""
        self._check_present(self.matrix_names)
        return [self.tensors[n] for n in self.matrix_names] + [self.head]

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape.

        Raises
        ------
        ModelError
            If it is missing, or has another shape.
        """
        self._check_present([name])
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise ModelError(
                f"{self.path} is not a complete {self.architecture.name} model: {name} is {' x '.join(map(str, tensor.shape))},"
                f" and its header speaks of {' x '.join(map(str, shape))}. Convert it again."
            )
        return tensor

    def _check_present(self, names: list[str]) -> None:
        missing = [name for name in names if name not in self.tensors]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ModelError(
                f"{self.path} is not a complete {printable(self.architecture.name)} model: it lacks {missing[0]}{more}."
                " Convert it again."
            )


def check_open(model: object) -> None:
    """Check that a model is one, and not the path of its file.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not isinstance(model, Model):
        raise TypeError(f"a model is what tailrace.gguf.file.open_model(path) returns, not {shown(model)}")


def open_model(path: Path | str) -> Model:
    """Open a GGUF file, all parts of one that is split, or a Hugging Face folder, and check all but the weights.

    Parameters
    ----------
    path : Path or str
        Of a model in parts, that of any part.

    Raises
    ------
    ModelError
        If a file is missing, damaged, cut off, incomplete, or no model.
    """
    path = Path(path)
    return _from_folder(path) if is_checkpoint(path) else _from_file(path)


def _from_file(path: Path) -> Model:
    headers = open_parts(path)
    header = headers[0]
    check_kind(header)
    tensors = {entry.name: _tensor(part, entry) for part in headers for entry in part.tensors}
    architecture = architecture_of(header.text("general.architecture"), tensors)
    return _checked(Model(header.path, architecture, header, tensors, len(headers), tuple(part.stamp for part in headers)))


def _from_folder(path: Path) -> Model:
    checkpoint = open_checkpoint(path)
    tensors = {t.name: _held(t) for t in checkpoint.tensors}
    header = Header(path, header_octets(checkpoint.values))
    architecture = fitted(checkpoint.architecture, tensors)
    return _checked(Model(path, architecture, header, tensors, stamps=checkpoint.stamps))


def _checked(model: Model) -> Model:
    if model.architecture.known:
        assert model.layers
        model._check_present([*model.matrix_names, EMBEDDING])
    return model


def _held(tensor: NewTensor) -> Tensor:
    assert tensor.data is not None
    return Tensor(tensor.name, tensor.type_name, TENSOR_TYPE_NUMBERS[tensor.type_name], tensor.shape, tensor.data)


def _tensor(header: Header, entry: TensorEntry) -> Tensor:
    kind, data = TENSOR_TYPES[entry.ggml_type], header.data[entry.start : entry.end]
    shape = entry.shape if kind.plain else (prod(entry.shape[:-1]), -1)
    return Tensor(
        entry.name, kind.name, entry.ggml_type, entry.shape, data.view(PLAIN.get(kind.name, data.dtype)).reshape(shape)
    )
