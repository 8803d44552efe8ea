"""Parameters of linear attention and state spaces in Hugging Face models: which tensors of a file they are, in which order."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.description import LinearAttention

from ..gguf.file import Tensor
from .states import value_heads

#: What files call parameters that the package gguf has no name for.
_LEAVES = {"A_log": "ssm_a", "dt_bias": "ssm_dt.bias", "D": "ssm_d"}
#: Parameters in which the rows of several tensors follow each other, if the file has them apart.
_JOINED = {
    "linear_attn.in_proj_qkvz.weight": (("attn_qkv.weight", "attn_gate.weight"),),
    "shared_mlp.input_linear.weight": (("ffn_gate_shexp.weight", "ffn_up_shexp.weight"), ("ffn_gate.weight", "ffn_up.weight")),
    "shared_mlp.output_linear.weight": (("ffn_down_shexp.weight",), ("ffn_down.weight",)),
    "block_sparse_moe.router.weight": (("ffn_gate_inp.weight",),),
    # Falcon-H1's converter leaves out the end of the name.
    "pre_ff_layernorm.weight": (("ffn_norm",), ("ffn_norm.weight",)),
}
_OF_VALUE_HEADS = ("in_proj_a.weight", "in_proj_b.weight", "A_log", "dt_bias")


def hybrid_names(parameter: str, tensors: Mapping[str, Tensor]) -> list[str] | None:
    """The tensors of a parameter; None if they have no names of their own here."""
    module, _, leaf = parameter.rpartition(".")
    prefix = next((f"blk.{part}." for part in module.split(".") if part.isdigit()), "")
    if leaf in _LEAVES:
        return [prefix + _LEAVES[leaf]]
    for name, choices in _JOINED.items():
        if parameter.endswith(name):
            found = [[prefix + part for part in choice] for choice in choices]
            return next((names for names in found if tensors.keys() >= set(names)), None)
    return None


def hybrid_row_order(parameter: str, a: LinearAttention, parts: int) -> NDArray[np.int64] | None:
    """For each row of a parameter that of its tensors, one after the other; None if that is the same.

    Parameters
    ----------
    parameter : str
    a : LinearAttention
    parts : int
        Tensors that it is made of.
    """
    leaf = parameter.partition("linear_attn.")[2]
    if not leaf:
        return None
    heads = np.argsort(value_heads(a))
    values = _elements(heads, a.value_size)
    if leaf == "in_proj_qkvz.weight" and parts == 2:
        # Those of a key head lie side by side: query, key, its values, their gates.
        keys = np.arange(a.keys).reshape(a.key_heads, -1)
        own = values.reshape(a.key_heads, -1)
        return np.concatenate([keys, a.keys + keys, 2 * a.keys + own, a.channels + own], axis=1).reshape(-1)
    if not a.tiled:
        return None
    if leaf in _OF_VALUE_HEADS:
        return heads
    if leaf == "in_proj_z.weight":
        return values
    if leaf in ("in_proj_qkv.weight", "conv1d.weight"):
        return np.concatenate([np.arange(2 * a.keys), 2 * a.keys + values])
    return None


def hybrid_column_order(parameter: str, a: LinearAttention) -> NDArray[np.int64] | None:
    """The same for the columns."""
    if not a.tiled or not parameter.endswith("linear_attn.out_proj.weight"):
        return None
    return _elements(np.argsort(value_heads(a)), a.value_size)


def hybrid_numbers(parameter: str, numbers: Any) -> Any:
    """What the file's numbers are in the parameter: of decays it has minus their exponentials."""
    return np.log(-numbers) if parameter.endswith("A_log") else numbers


def _elements(heads: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return (heads[:, None] * size + np.arange(size)).reshape(-1)
