"""Tensors as makers of models name and join them, where transformers has another class that computes the same."""

from collections.abc import Mapping
from typing import Any

import torch

#: Parts of names: transformers' own, and those of the maker.
_NAMES = {
    "internlm2": {
        "embed_tokens": "tok_embeddings",
        "lm_head": "output",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
    },
    "bailingmoe2": {
        "embed_tokens": "word_embeddings",
        "self_attn.o_proj": "attention.dense",
        "self_attn.q_norm": "attention.query_layernorm",
        "self_attn.k_norm": "attention.key_layernorm",
        "mlp.gate.e_score_correction_bias": "mlp.gate.expert_bias",
    },
}
#: What q, k and v are one matrix of.
_JOINED = {"internlm2": "attention.wqkv", "bailingmoe2": "attention.query_key_value"}


def renamed(architecture: str, tensors: Mapping[str, Any], heads: int, kv_heads: int) -> dict[str, Any]:
    """The tensors of a checkpoint as its maker has them.

    Parameters
    ----------
    architecture : str
    tensors : mapping from name to Tensor
        As transformers saves them.
    heads, kv_heads : int
    """
    if architecture not in _NAMES:
        return dict(tensors)
    found = {}
    for name, tensor in tensors.items():
        if ".self_attn.k_proj." in name or ".self_attn.v_proj." in name:
            continue
        if ".self_attn.q_proj." in name:
            parts = [tensors[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            joined = name.replace("self_attn.q_proj", _JOINED[architecture])
            # InternLM has the keys and values of each group behind its queries.
            found[joined] = _by_group(parts, heads, kv_heads) if architecture == "internlm2" else torch.cat(parts)
            continue
        for own, theirs in _NAMES[architecture].items():
            name = name.replace(own, theirs)
        found[name] = tensor
    return found


def _by_group(parts: list[Any], heads: int, kv_heads: int) -> Any:
    size = len(parts[0]) // heads
    groups = [part.reshape(kv_heads, -1, size, part.shape[-1]) for part in parts]
    return torch.cat(groups, dim=1).reshape(-1, parts[0].shape[-1])
