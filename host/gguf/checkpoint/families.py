"""Families of models: what `model_type` of a config.json leaves unsaid. Adding one like those below is one entry here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

GELU = ("gelu_pytorch_tanh", "gelu_new")
SILU = ("silu", "swish")


@dataclass(frozen=True)
class Family:
    """Models that one class of transformers computes.

    Attributes
    ----------
    model_type : str
        ``model_type`` of the configuration.
    architecture : str
        What GGUF calls it.
    activations : tuple of str
        What ``hidden_act`` may be.
    neighbours : bool
        Whether RoPE rotates neighbours, and not halves of a head.
    norms_below_one : bool
        Whether norms multiply with 1 more than their weights.
    window_every : int
        Every n-th layer sees all tokens, if the configuration does not say which do; 0: none does.
    local_rope : float or None
        Base of the angles of layers with a window, if these have their own.
    defaults : mapping
        Values of configurations that do not name them, where these are not those of Llama.
    fixed : mapping
        What values must be, where others would compute something else; what is not named is this.
    numbers : mapping of str to str
        Numbers of the configuration, and what GGUF calls them.
    sizes : mapping of str to tuple of str
        GGUF's names of whole numbers, and for each the names that the configuration may have.
    within : str
        Name of the object in the configuration that is about text, if the model has other parts.
    """

    model_type: str
    architecture: str
    activations: tuple[str, ...] = SILU
    neighbours: bool = False
    norms_below_one: bool = False
    window_every: int = 0
    local_rope: float | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within: str = ""


_MIXTURE = {
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
}
_GRANITE = {
    "embedding_multiplier": "embedding_scale",
    "logits_scaling": "logit_scale",
    "residual_multiplier": "residual_scale",
    "attention_multiplier": "attention.scale",
}
_GEMMA3 = Family(
    "gemma3_text",
    "gemma3",
    GELU,
    norms_below_one=True,
    window_every=6,
    local_rope=10_000.0,
    defaults={
        "head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4, "rope_theta": 1e6, "sliding_window": 4096,
        "vocab_size": 262208, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 256,
        "tie_word_embeddings": True,
    },
    numbers={"final_logit_softcapping": "final_logit_softcapping"},
    fixed={"use_bidirectional_attention": False},
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    f.model_type: f
    for f in (
        Family("llama", "llama"),
        Family("mistral", "llama", defaults={"sliding_window": 4096}),
        Family("qwen2", "qwen2", defaults={"use_sliding_window": False}),
        Family("qwen3", "qwen3", defaults={"use_sliding_window": False, "head_dim": 128}),
        Family(
            "qwen3_moe",
            "qwen3moe",
            defaults={"use_sliding_window": False, "norm_topk_prob": False},
            sizes=_MIXTURE,
            fixed={"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
        ),
        Family(
            "mixtral", "llama", sizes={"expert_count": ("num_local_experts",), "expert_used_count": ("num_experts_per_tok",)}
        ),
        Family(
            "gemma2",
            "gemma2",
            GELU,
            norms_below_one=True,
            window_every=2,
            defaults={
                "head_dim": 256,
                "sliding_window": 4096,
                "query_pre_attn_scalar": 256,
                "final_logit_softcapping": 30.0,
                "attn_logit_softcapping": 50.0,
                "tie_word_embeddings": True,
            },
            numbers={name: name for name in ("final_logit_softcapping", "attn_logit_softcapping")},
            fixed={"use_bidirectional_attention": False},
        ),  # fmt: skip
        _GEMMA3,
        replace(_GEMMA3, model_type="gemma3", within="text_config"),
        Family("phi3", "phi3"),
        Family("olmo2", "olmo2"),
        Family("seed_oss", "seed_oss", defaults={"head_dim": 128}),
        Family("granite", "granite", numbers=_GRANITE),
    )
}
