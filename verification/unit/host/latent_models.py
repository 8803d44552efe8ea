"""Small random models with latent attention: their sizes, what a header says of them, and the tensors that files have apart."""

from typing import Any

import numpy as np
import torch
import transformers

from tailrace.gguf.quantisation import dequantise
from tailrace.gguf.types import TENSOR_TYPE_NUMBERS
from tailrace.gguf.writer import NewTensor, tensor_of

#: What transformers calls modules, and files call tensors.
NAMES = {
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
}


def latent_yarn(factor: float, original: int, mscale: float) -> dict[str, Any]:
    """How DeepSeek's angles are scaled, and its scores."""
    return {
        "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original, "mscale": mscale,
        "mscale_all_dim": mscale, "beta_fast": 32.0, "beta_slow": 1.0,
    }  # fmt: skip


def latent_config(
    common: dict[str, Any], *, latent: tuple[int, int, int, int], rank: int, feed_forward: int, experts: int, used: int, shared: int,
    groups: int, dense: int,
) -> Any:  # fmt: skip
    """A configuration.

    `latent`: elements of the latent, of what is rotated and what is not of a head's queries, and of its outputs; `rank`: of
    compressed queries; `dense`: layers at the beginning that have no experts. Without a rank it is a DeepSeek V2, whose router is a softmax, else a V3.
    """
    size, rotated, key_size, value_size = latent
    common = {key: value for key, value in common.items() if key != "head_dim"}
    common |= {
        "num_key_value_heads": common["num_attention_heads"],
        "kv_lora_rank": size, "q_lora_rank": rank or None, "qk_rope_head_dim": rotated, "qk_nope_head_dim": key_size,
        "v_head_dim": value_size, "moe_intermediate_size": feed_forward, "n_routed_experts": experts, "num_experts_per_tok": used,
        "n_shared_experts": shared, "first_k_dense_replace": dense, "routed_scaling_factor": 1.5,
    }  # fmt: skip
    if not rank:
        return transformers.DeepseekV2Config(**common)
    return transformers.DeepseekV3Config(**common, n_group=groups, topk_group=max(groups - 1, 1), num_mtp_layers=0)


def latent_header(config: Any) -> dict[str, Any]:
    """What a header says of latent attention."""
    size, rotated = config.kv_lora_rank, config.qk_rope_head_dim
    values = {
        "attention.head_count_kv": 1, "attention.kv_lora_rank": size, "attention.key_length": size + rotated,
        "attention.value_length": size, "attention.key_length_mla": config.qk_nope_head_dim + rotated,
        "attention.value_length_mla": config.v_head_dim, "rope.dimension_count": rotated,
    }  # fmt: skip
    if config.q_lora_rank:
        values["attention.q_lora_rank"] = config.q_lora_rank
    if "mscale_all_dim" in config.rope_parameters:
        values["rope.scaling.yarn_log_multiplier"] = 0.1 * config.rope_parameters["mscale_all_dim"]
    return values


def filled_keys_and_values(config: Any, layer: int, tensor: Any, kind: str, random: Any) -> list[NewTensor]:
    """Fill the matrix that makes keys and values of latents; the file has them apart, and the keys' transposed."""
    heads, size = config.num_attention_heads, config.kv_lora_rank
    whole = tensor.view(heads, config.qk_nope_head_dim + config.v_head_dim, size)
    parts = whole[:, : config.qk_nope_head_dim].transpose(1, 2), whole[:, config.qk_nope_head_dim :]
    found = []
    for name, part in zip(("k_b", "v_b"), parts, strict=True):
        values = (random.standard_normal(tuple(part.shape)) * size**-0.5).astype(np.float32)
        written = tensor_of(f"blk.{layer}.attn_{name}.weight", values, kind)
        assert written.data is not None
        held = dequantise(written.data, TENSOR_TYPE_NUMBERS[written.type_name]).reshape(values.shape)
        part.copy_(torch.from_numpy(held))
        found.append(written)
    return found
