"""Which tensors of a GGUF file a parameter of a Hugging Face model comes from, and how their weights are arranged there."""

from collections.abc import Sequence
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers.pytorch_utils import Conv1D

from tailrace.firmware.description import LinearAttention
from tailrace.spec.errors import ModelError

from ..gguf.architectures import EMBEDDING, HEAD
from ..gguf.file import Model, Tensor
from .hybrid_weights import hybrid_column_order, hybrid_names, hybrid_numbers, hybrid_row_order

#: Tensors about RoPE, which no parameter holds.
ROPE_TENSORS = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}
#: Parameters that hold all experts of a layer, and the tensors that they are made of.
_EXPERTS = {"gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"), "down_proj": ("ffn_down_exps",)}
#: Architectures whose norms multiply with 1 more than Hugging Face's weights; the file holds the sum.
NORMS_ABOVE_ONE = ("gemma3", "qwen35", "qwen35moe", "qwen3next")
#: How their norms are called that do not.
_PLAIN_NORM = "ssm_norm.weight"


def sources(host: nn.Module, model: Model) -> dict[str, tuple[Tensor, ...]]:
    """The tensors of the file for every parameter, and each tied use of it; none of either may be left over.

    Raises
    ------
    ModelError
        If a tensor is missing, or one is not used.
    """
    (arch,) = (kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == model.architecture.name)
    names = gguf.get_tensor_name_map(arch, model.layers)
    found: dict[str, tuple[Tensor, ...]] = {}
    for parameter in host.state_dict():
        module, _, kind = parameter.rpartition(".")
        if kind in _EXPERTS:
            layer = next(part for part in module.split(".") if part.isdigit())
            wanted = [f"blk.{layer}.{name}.weight" for name in _EXPERTS[kind]]
        else:
            wanted = hybrid_names(parameter, model.tensors) or [f"{names.get_name(module)}.{kind}"]
        if wanted == [HEAD] and HEAD not in model.tensors:
            wanted = [EMBEDDING]
        for name in wanted:
            if name not in model.tensors:
                raise ModelError(
                    f"{model.path} is not a complete {model.architecture.name} model: it lacks {name}. Convert it again."
                )
        found[parameter] = tuple(model.tensors[name] for name in wanted)
    # Blocks behind the last layer predict further tokens.
    behind = tuple(f"blk.{n}." for n in range(model.layers, model.blocks))
    unused = set(model.tensors) - {t.name for tensors in found.values() for t in tensors} - ROPE_TENSORS
    unused = {name for name in unused if not name.startswith(behind)}
    if unused:
        raise ModelError(
            f"{model.path} has tensors that transformers' {model.architecture.name} does not use, such as {min(unused)}:"
            " its results would be wrong. This variant of the architecture is not supported."
        )
    return found


def row_orders(
    host: Any, model: Model, found: dict[str, tuple[Tensor, ...]], linear: LinearAttention | None = None
) -> dict[str, NDArray[np.int64]]:
    """For parameters whose rows are in another order than the file's: the row of the file for each of theirs.

    `linear`: the linear attention that layers of the model have.
    """
    orders: dict[str, NDArray[np.int64]] = {}
    if linear is not None:
        ordered = {parameter: hybrid_row_order(parameter, linear, len(tensors)) for parameter, tensors in found.items()}
        orders |= {parameter: order for parameter, order in ordered.items() if order is not None}
    if not model.architecture.permuted:
        return orders
    heads = {"attn_q": host.config.num_attention_heads, "attn_k": host.config.num_key_value_heads}
    for parameter, (tensor, *_) in found.items():
        for matrix in model.architecture.permuted:
            if f".{matrix}." in tensor.name:
                # The file interleaves the two halves of each head's rows.
                order = np.arange(tensor.rows).reshape(heads[matrix], tensor.rows // heads[matrix] // 2, 2)
                orders[parameter] = order.swapaxes(1, 2).reshape(-1)
    return orders


def arranged(
    model: Model,
    parameter: str,
    tensors: Sequence[Tensor],
    module: nn.Module,
    order: NDArray[np.int64] | None,
    linear: LinearAttention | None = None,
) -> NDArray[np.float32]:
    """The weights of a parameter as Hugging Face has them.

    Parameters
    ----------
    model : Model
    parameter : str
    tensors : sequence of Tensor
        What `sources` found, perhaps quantised.
    module : Module
        The module that the parameter belongs to.
    order : ndarray of int or None
        What `row_orders` found.
    linear : LinearAttention or None
        What layers of the model have.
    """
    if len(tensors[0].shape) == 3:
        # Experts: the rows of gate and up follow each other, expert by expert.
        return np.concatenate([t.dequantised().reshape(t.shape) for t in tensors], axis=1)
    columns = None if linear is None else hybrid_column_order(parameter, linear)
    if len(tensors[0].shape) == 1 or tensors[0].columns == 1:
        (tensor,) = tensors
        name = tensor.name
        above_one = (
            model.architecture.name in NORMS_ABOVE_ONE and name.endswith("norm.weight") and not name.endswith(_PLAIN_NORM)
        )
        vector = hybrid_numbers(parameter, tensor.dequantised().reshape(-1))
        return (vector if order is None else vector[order]) - np.float32(above_one)
    weights = tensors[0].dequantised() if len(tensors) == 1 else np.concatenate([tensor.dequantised() for tensor in tensors])
    weights = weights if order is None else weights[order]
    weights = weights if columns is None else weights[:, columns]
    return weights.T if isinstance(module, Conv1D) else weights
