"""Headers and tensors of small models of the architectures that `tiny_models` does not write, without vocabularies."""

from pathlib import Path
from typing import Any

import numpy as np

from tailrace.gguf.writer import tensor_of, write_gguf

PHI3 = {
    "token_embd.weight": (40, 64),
    "blk.{n}.attn_norm.weight": (64,),
    "blk.{n}.attn_qkv.weight": (128, 64),
    "blk.{n}.attn_output.weight": (64, 64),
    "blk.{n}.ffn_norm.weight": (64,),
    "blk.{n}.ffn_up.weight": (192, 64),
    "blk.{n}.ffn_down.weight": (64, 96),
    "output_norm.weight": (64,),
}
PHI3_HEADER: dict[str, Any] = {
    "block_count": 1, "embedding_length": 64, "feed_forward_length": 96, "attention.head_count": 4, "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5, "rope.dimension_count": 8,
}  # fmt: skip
GEMMA3_HEADER: dict[str, Any] = {
    "block_count": 7, "embedding_length": 64, "feed_forward_length": 96, "attention.head_count": 2, "attention.head_count_kv": 1,
    "attention.key_length": 32, "attention.value_length": 32, "attention.layer_norm_rms_epsilon": 1e-6, "attention.sliding_window": 8,
    "rope.freq_base": 1e6, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0,
}  # fmt: skip
_GEMMA3_NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
GEMMA3: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (40, 64), "output_norm.weight": (64,),
    **{f"blk.{{n}}.{name}.weight": (64,) for name in _GEMMA3_NORMS},
    **{f"blk.{{n}}.attn_{name}_norm.weight": (32,) for name in "qk"},
    "blk.{n}.attn_q.weight": (64, 64), "blk.{n}.attn_k.weight": (32, 64), "blk.{n}.attn_v.weight": (32, 64),
    "blk.{n}.attn_output.weight": (64, 64), "blk.{n}.ffn_gate.weight": (96, 64), "blk.{n}.ffn_up.weight": (96, 64),
    "blk.{n}.ffn_down.weight": (64, 96),
}  # fmt: skip
GPT2_HEADER: dict[str, Any] = {
    "block_count": 1, "embedding_length": 64, "feed_forward_length": 96, "attention.head_count": 4,
    "attention.layer_norm_epsilon": 1e-5,
}  # fmt: skip
_GPT2_MATRICES = {"attn_qkv": (192, 64), "attn_output": (64, 64), "ffn_up": (96, 64), "ffn_down": (64, 96)}
GPT2: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (40, 64),
    "position_embd.weight": (64, 64),
    **{
        f"{name}.{kind}": (64,)
        for name in ("output_norm", "blk.{n}.attn_norm", "blk.{n}.ffn_norm")
        for kind in ("weight", "bias")
    },
    **{f"blk.{{n}}.{name}.weight": shape for name, shape in _GPT2_MATRICES.items()},
    **{f"blk.{{n}}.{name}.bias": shape[:1] for name, shape in _GPT2_MATRICES.items()},
}
MIXTURE_HEADER: dict[str, Any] = {
    **{k: v for k, v in PHI3_HEADER.items() if not k.startswith("rope")}, "expert_count": 4, "expert_used_count": 2,
}  # fmt: skip
MIXTURE = {
    "token_embd.weight": (40, 64), "output_norm.weight": (64,), "blk.{n}.attn_norm.weight": (64,), "blk.{n}.ffn_norm.weight": (64,),
    "blk.{n}.attn_q.weight": (64, 64), "blk.{n}.attn_k.weight": (32, 64), "blk.{n}.attn_v.weight": (32, 64),
    "blk.{n}.attn_output.weight": (64, 64), "blk.{n}.ffn_gate_inp.weight": (4, 64), "blk.{n}.ffn_gate_exps.weight": (4, 96, 64),
    "blk.{n}.ffn_up_exps.weight": (4, 96, 64), "blk.{n}.ffn_down_exps.weight": (4, 64, 96),
}  # fmt: skip
#: A state space in layer 0, with 2 groups, 4 heads of 32 and 32 elements of a state, and attention in layer 1.
GRANITE_HYBRID_HEADER: dict[str, Any] = {
    "block_count": 2, "embedding_length": 64, "feed_forward_length": 96, "attention.head_count": 4,
    "attention.head_count_kv": [0, 2], "attention.layer_norm_rms_epsilon": 1e-5, "ssm.conv_kernel": 3, "ssm.state_size": 32,
    "ssm.group_count": 2, "ssm.time_step_rank": 4, "ssm.inner_size": 128, "rope.scaling.finetuned": False,
}  # fmt: skip
GRANITE_HYBRID: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (40, 64), "output_norm.weight": (64,), "blk.{n}.attn_norm.weight": (64,), "blk.{n}.ffn_norm.weight": (64,),
    "blk.{n}.ffn_gate.weight": (96, 64), "blk.{n}.ffn_up.weight": (96, 64), "blk.{n}.ffn_down.weight": (64, 96),
    "blk.0.ssm_in.weight": (388, 64), "blk.0.ssm_conv1d.weight": (256, 3), "blk.0.ssm_conv1d.bias": (256,),
    "blk.0.ssm_dt.bias": (4,), "blk.0.ssm_a": (4, 1), "blk.0.ssm_d": (4, 1), "blk.0.ssm_norm.weight": (2, 64),
    "blk.0.ssm_out.weight": (64, 128), "blk.1.attn_q.weight": (64, 64), "blk.1.attn_k.weight": (32, 64),
    "blk.1.attn_v.weight": (32, 64), "blk.1.attn_output.weight": (64, 64),
}  # fmt: skip
#: Attention, a feed-forward, a state space, a mixture: each a layer of its own.
NEMOTRON_H_HEADER: dict[str, Any] = {
    **{k: v for k, v in GRANITE_HYBRID_HEADER.items() if not k.startswith("rope")}, "block_count": 4,
    "attention.head_count_kv": [2, 0, 0, 0], "feed_forward_length": [0, 96, 0, 64], "expert_count": 8, "expert_used_count": 3,
    "expert_feed_forward_length": 64,
}  # fmt: skip
NEMOTRON_H: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (40, 64), "output_norm.weight": (64,), "blk.{n}.attn_norm.weight": (64,),
    **{f"blk.0.attn_{name}.weight": (rows, 64) for name, rows in (("q", 64), ("k", 32), ("v", 32), ("output", 64))},
    "blk.1.ffn_up.weight": (96, 64), "blk.1.ffn_down.weight": (64, 96),
    **{name.replace("blk.0", "blk.2"): shape for name, shape in GRANITE_HYBRID.items() if ".ssm" in name},
    "blk.3.ffn_gate_inp.weight": (8, 64), "blk.3.ffn_up_exps.weight": (8, 64, 64), "blk.3.ffn_down_exps.weight": (8, 64, 64),
    "blk.3.ffn_up_shexp.weight": (96, 64), "blk.3.ffn_down_shexp.weight": (64, 96),
}  # fmt: skip
#: Gated delta rule with 2 key heads and 4 value heads of 32, and a mixture; projections as files had them first.
QWEN3NEXT_HEADER: dict[str, Any] = {
    **{k: v for k, v in MIXTURE_HEADER.items() if not k.endswith("head_count_kv")}, "full_attention_interval": 2, "ssm.conv_kernel": 3, "ssm.state_size": 32, "ssm.group_count": 2,
    "ssm.time_step_rank": 4, "ssm.inner_size": 128,
}  # fmt: skip
QWEN3NEXT: dict[str, tuple[int, ...]] = {
    **{name: shape for name, shape in MIXTURE.items() if "attn" not in name and "ffn_norm" not in name},
    "blk.{n}.attn_norm.weight": (64,), "blk.{n}.post_attention_norm.weight": (64,), "blk.{n}.ssm_in.weight": (384, 64),
    "blk.{n}.ssm_ba.weight": (8, 64), "blk.{n}.ssm_conv1d.weight": (256, 3), "blk.{n}.ssm_dt.bias": (4,),
    "blk.{n}.ssm_a": (4,), "blk.{n}.ssm_norm.weight": (32,), "blk.{n}.ssm_out.weight": (64, 128),
}  # fmt: skip


def write(path: Path, architecture: str, header: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Path:
    """A file with these values and matrices of Q8_0; `{n}` in a name stands for layers 0 and following."""
    random = np.random.default_rng(2)
    values = {f"{architecture}.{key}": value for key, value in {"context_length": 64, **header}.items()}
    tensors = []
    for name, shape in shapes.items():
        for layer in range(header["block_count"]) if "{n}" in name else [0]:
            numbers = random.standard_normal(shape)
            numbers = np.abs(numbers) if "rope" in name else numbers
            plain = any(part in name for part in ("position", "norm", ".bias")) or shape[-1] % 32
            kind = "F32" if plain or len(shape) == 1 else "Q8_0"
            tensors.append(tensor_of(name.format(n=layer), numbers, kind))
    return write_gguf(path, architecture, values, tensors)
