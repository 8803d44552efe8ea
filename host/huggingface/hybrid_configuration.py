"""The Hugging Face configuration of a described model with states: linear attention, state spaces, short convolutions."""

from math import inf
from typing import Any

import transformers

from tailrace.firmware.description import Attention, Experts, FeedForward, LinearAttention, ShortConvolution

from ..gguf.describe import ImportedModel

#: Class of the configuration of each architecture.
CLASSES: dict[str, Any] = {
    "qwen35": transformers.Qwen3_5TextConfig,
    "qwen35moe": transformers.Qwen3_5MoeTextConfig,
    "qwen3next": transformers.Qwen3NextConfig,
    "granitehybrid": transformers.GraniteMoeHybridConfig,
    "falcon-h1": transformers.FalconH1Config,
    "mamba2": transformers.Mamba2Config,
    "lfm2": transformers.Lfm2Config,
}
#: Types of models that a file can be matched with. Falcon-H1 is none: its converter multiplies weights with what the model
#: keeps beside them.
HYBRID_TYPES = {kind.model_type: name for name, kind in CLASSES.items() if name != "falcon-h1"}
#: What Falcon-H1 has multipliers of.
_MULTIPLIERS = ("lm_head", "embedding", "key", "attention_in", "attention_out", "ssm_in", "ssm_out")
#: What state spaces leave as it is.
_PLAIN = {"hidden_act": "silu", "time_step_limit": (0.0, inf)}


def hybrid_values(imported: ImportedModel, common: dict[str, Any]) -> dict[str, Any]:
    """What a configuration says, as far as it matters for what is computed.

    Parameters
    ----------
    imported : ImportedModel
        Of one of the architectures in `CLASSES`.
    common : dict
        What configurations of all models say; of one without attention, what it has of that.
    """
    architecture = imported.description.architecture
    if architecture == "mamba2":
        return _mamba2(imported, common)
    values = common | _feed_forward(imported)
    mixers = _mixers(imported)
    if architecture in ("qwen35", "qwen35moe", "qwen3next"):
        (a,) = {mixer for mixer in mixers if isinstance(mixer, LinearAttention)}
        return values | {
            "linear_num_key_heads": a.key_heads, "linear_num_value_heads": a.value_heads, "linear_key_head_dim": a.key_size,
            "linear_value_head_dim": a.value_size, "linear_conv_kernel_dim": a.kernel, "hidden_act": "silu",
            "layer_types": _kinds(imported, "linear_attention"),
        }  # fmt: skip
    if architecture == "lfm2":
        (kernel,) = {mixer.kernel for mixer in mixers if isinstance(mixer, ShortConvolution)}
        kinds = {"layer_types": _kinds(imported, "conv"), "block_auto_adjust_ff_dim": False}
        return values | kinds | {"conv_L_cache": kernel, "norm_eps": imported.description.norm.epsilon}
    if architecture == "falcon-h1":
        # Its converter multiplies the weights with all multipliers.
        ones: dict[str, Any] = {f"{name}_multiplier": 1.0 for name in _MULTIPLIERS}
        ones |= {"mlp_multipliers": [1.0] * 2, "ssm_multipliers": [1.0] * 5}
        return values | ones | _state_space(imported) | {"mamba_norm_before_gate": False}
    description, attention = imported.description, imported.description.attentions[0]
    return values | _state_space(imported) | {
        "layer_types": _kinds(imported, "linear_attention"), "embedding_multiplier": description.embedding_scale,
        "logits_scaling": 1 / description.logit_scale, "residual_multiplier": description.residual_scale,
        "attention_multiplier": attention.scale, "position_embedding_type": "rope" if attention.rotary_size else None,
    }  # fmt: skip


def _mixers(imported: ImportedModel) -> list[Any]:
    return [mixer for _, mixer in imported.description.mixers]


def _kinds(imported: ImportedModel, recurrent: str) -> list[str]:
    attentions = (isinstance(layer.attention, Attention) for layer in imported.description.layers)
    return ["full_attention" if has_keys else recurrent for has_keys in attentions]


def _feed_forward(imported: ImportedModel) -> dict[str, Any]:
    """What is said of feed-forwards, which are of one kind in all layers."""
    inner = imported.description.layers[0].feed_forward
    granite = imported.description.architecture == "granitehybrid"
    if isinstance(inner, FeedForward):
        return {"intermediate_size": inner.size} | (
            {"shared_intermediate_size": inner.size, "num_local_experts": 0} if granite else {}
        )
    assert isinstance(inner, Experts)
    assert inner.shared is not None
    if granite:
        shared = {"shared_intermediate_size": inner.shared.size, "intermediate_size": inner.expert.size}
        return shared | {"num_local_experts": inner.count, "num_experts_per_tok": inner.used}
    return {
        "moe_intermediate_size": inner.expert.size, "num_experts": inner.count, "num_experts_per_tok": inner.used,
        "shared_expert_intermediate_size": inner.shared.size, "norm_topk_prob": inner.normalise,
    }  # fmt: skip


def _state_space(imported: ImportedModel) -> dict[str, Any]:
    (a,) = {mixer for mixer in _mixers(imported) if isinstance(mixer, LinearAttention)}
    hidden, falcon = imported.description.hidden, imported.description.architecture == "falcon-h1"
    return {
        "mamba_n_groups": a.key_heads, "mamba_n_heads": a.value_heads, "mamba_d_state": a.key_size,
        "mamba_d_head": a.value_size, "mamba_expand": _whole(a.values, hidden), "mamba_d_conv": a.kernel,
        "mamba_conv_bias": _has_bias(imported), **_PLAIN,
        **({"mamba_d_ssm": a.values, "mamba_rms_norm": bool(a.norm_size)} if falcon else {}),
    }  # fmt: skip


def _mamba2(imported: ImportedModel, common: dict[str, Any]) -> dict[str, Any]:
    description = imported.description
    (a,) = {mixer for mixer in _mixers(imported) if isinstance(mixer, LinearAttention)}
    return common | {
        "hidden_size": description.hidden, "num_hidden_layers": len(description.layers), "n_groups": a.key_heads,
        "num_heads": a.value_heads, "state_size": a.key_size, "head_dim": a.value_size,
        "expand": _whole(a.values, description.hidden), "conv_kernel": a.kernel, "use_conv_bias": _has_bias(imported),
        "layer_norm_epsilon": description.norm.epsilon, **_PLAIN,
    }  # fmt: skip


def _whole(values: int, hidden: int) -> Any:
    """How many times as many values there are as elements between layers."""
    return values // hidden if values % hidden == 0 else values / hidden


def _has_bias(imported: ImportedModel) -> bool:
    return any(name.endswith("ssm_conv1d.bias") for name in imported.model.tensors)
