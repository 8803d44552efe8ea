"""Keys and values of a model's first layer, from the numbers of its file: what a prefill elsewhere must have computed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.description import HeadNorm, NormKind, layer_role

from ..gguf.closeness import quantisation_bound
from ..gguf.describe import ImportedModel
from ..gguf.file import Tensor
from ..gguf.types import PLAIN

#: What rounding to bfloat16 on the way to keys and values may leave.
_ARITHMETIC = 2.0**-6
#: What formats may leave that the device does not read, and an embedding may have: some have less than 3 bits.
_COARSE = 0.5


def first_layer(
    imported: ImportedModel, tokens: Sequence[int], positions: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keys after RoPE, and values, of the first layer: they depend on a token and its position alone.

    Parameters
    ----------
    imported : ImportedModel
    tokens : sequence of int
    positions : sequence of int
        Of these tokens.

    Returns
    -------
    tuple of ndarray of float64, shape (kv_heads, tokens, head_size)
    """
    attention = imported.description.attentions[0]
    shape = (len(tokens), attention.kv_heads, attention.head_size)
    normalised = _normalised(imported, _embeddings(imported, tokens, positions))
    keys, values = (_product(imported, name, normalised).reshape(shape) for name in ("k", "v"))
    if attention.head_norm is HeadNorm.ROTATED_HEAD:
        keys = _with_head_norm(imported, _rotated(imported, keys, positions))
    else:
        keys = _rotated(imported, _with_head_norm(imported, keys), positions)
    return keys.swapaxes(0, 1), values.swapaxes(0, 1)


def explained_distance(imported: ImportedModel) -> float:
    """How far keys and values may be from `first_layer`, if the file was quantised from the model that computed them."""
    matrices = max(_bound(imported.matrices[layer_role(0, name)].tensor) for name in ("k", "v"))
    return _ARITHMETIC + matrices + _bound(imported.tables["embedding"].tensor)


def _bound(tensor: Tensor) -> float:
    is_coarse = tensor.format is None and tensor.type_name not in (*PLAIN, "BF16")
    return _COARSE if is_coarse else quantisation_bound(tensor.format)


def _embeddings(imported: ImportedModel, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[np.float64]:
    description = imported.description

    def rows(role: str, numbers: Sequence[int]) -> NDArray[np.float64]:
        table = imported.tables[role]
        return np.concatenate([table.numbers(n, n + 1) for n in numbers]).astype(np.float64)

    embeddings = rows("embedding", tokens) * description.embedding_scale
    return embeddings + rows("position_embedding", positions) if description.learned_positions else embeddings


def _with_head_norm(imported: ImportedModel, keys: NDArray[np.float64]) -> NDArray[np.float64]:
    attention = imported.description.attentions[0]
    if attention.head_norm is None:
        return keys
    weight = _vector(imported, layer_role(0, "k_norm")).reshape(attention.kv_heads, attention.head_size)
    axes = (-2, -1) if attention.head_norm is HeadNorm.ALL_HEADS else -1
    return keys / np.sqrt(np.mean(keys**2, axis=axes, keepdims=True) + imported.description.norm.epsilon) * weight


def _normalised(imported: ImportedModel, x: NDArray[np.float64]) -> NDArray[np.float64]:
    if not imported.description.layers[0].pre_norms:
        return x
    norm, role = imported.description.norm, layer_role(0, "attention_norm")
    if norm.kind is NormKind.LAYER:
        x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + norm.epsilon) * _vector(imported, role)
    return x + _vector(imported, f"{role}_bias") if f"{role}_bias" in imported.tables else x


def _product(imported: ImportedModel, name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    role = layer_role(0, name)
    product = x @ imported.matrices[role].numbers().astype(np.float64).T
    bias = f"{role}_bias"
    return product + _vector(imported, bias) if bias in imported.tables else product


def _rotated(imported: ImportedModel, keys: NDArray[np.float64], positions: Sequence[int]) -> NDArray[np.float64]:
    attention = imported.description.attentions[0]
    half = attention.rotary_size // 2
    if not half:
        return keys
    rope = imported.ropes[attention.rope]
    table: Any = np.concatenate([rope.table(position, 1) for position in positions]).astype(np.float64)[:, None]
    cosines, sines = table[..., :half], table[..., half:]
    first, second, rest = keys[..., :half], keys[..., half : 2 * half], keys[..., 2 * half :]
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines, rest], axis=-1)


def _vector(imported: ImportedModel, role: str) -> NDArray[np.float64]:
    return imported.tables[role].numbers().reshape(-1).astype(np.float64)
