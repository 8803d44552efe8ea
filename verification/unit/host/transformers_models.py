"""Small random models of every architecture, as Hugging Face has them and as a converter writes them to GGUF."""

from dataclasses import replace
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tailrace.gguf.quantisation import dequantise
from tailrace.gguf.types import TENSOR_TYPE_NUMBERS
from tailrace.gguf.writer import NewTensor, tensor_of, write_gguf
from verification.unit.host.architectures import GEMMA4, MIXTURES

from .latent_models import NAMES, filled_keys_and_values, latent_config, latent_header
from .tiny_models import SPECIAL, byte_alphabet

#: Whose converter puts the two halves of each head's rows of q and k side by side.
_PAIRED = (
    "llama",
    "mixtral",
    "internlm2",
    "arcee",
    "mistral3",
    "smollm3",
    "granite",
    "granitemoe",
    "granitehybrid",
    "granitehybridmoe",
)

_COMMON = {
    **NAMES,
    "embed_tokens": "token_embd",
    "embeddings": "token_embd",
    "norm_f": "output_norm",
    "embed_tokens_per_layer": "per_layer_token_embd",
    "per_layer_model_projection": "per_layer_model_proj",
    "per_layer_projection_norm": "per_layer_proj_norm",
    "norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.gate": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp",
    "mlp.gate.wg": "ffn_gate_inp",
    **{
        f"mlp.{shared}.{part}_proj": f"ffn_{part}_shexp"
        for shared in ("shared_expert", "shared_experts", "shared_mlp")
        for part in ("gate", "up", "down")
    },
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    # Granite's experts, Hunyuan's norms, Phi 2, StarCoder 2.
    "block_sparse_moe.router": "ffn_gate_inp",
    "self_attn.query_layernorm": "attn_q_norm",
    "self_attn.key_layernorm": "attn_k_norm",
    "self_attn.dense": "attn_output",
    "mlp.fc1": "ffn_up",
    "embedding_norm": "token_embd_norm",
    "mlp.fc2": "ffn_down",
    "final_layernorm": "output_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "post_feedforward_layernorm_1": "post_ffw_norm_1",
    "post_feedforward_layernorm_2": "post_ffw_norm_2",
    "pre_feedforward_layernorm_2": "pre_ffw_norm_2",
    "router.proj": "ffn_gate_inp",
    "router": "ffn_gate_inp",
    "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm",
}
_LFM2 = {
    "conv.in_proj": "shortconv.in_proj",
    "conv.conv": "shortconv.conv",
    "conv.out_proj": "shortconv.out_proj",
    "feed_forward.gate": "ffn_gate_inp",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
}
_QWEN35 = {
    "post_attention_layernorm": "post_attention_norm",
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out",
}
_QWEN3NEXT = {**_QWEN35, "linear_attn.in_proj_qkvz": "attn_qkv", "linear_attn.in_proj_ba": "ssm_ba"}
_MAMBA = {
    "mamba.in_proj": "ssm_in",
    "mamba.conv1d": "ssm_conv1d",
    "mamba.norm": "ssm_norm",
    "mamba.out_proj": "ssm_out",
}
_NEMOTRON_H = {
    "norm": "attn_norm",
    **{f"mixer.{mamba}": stem for mamba, stem in (("in_proj", "ssm_in"), ("conv1d", "ssm_conv1d"), ("norm", "ssm_norm"))},
    "mixer.out_proj": "ssm_out",
    **{f"mixer.{part}_proj": f"attn_{part}" for part in "qkv"},
    "mixer.o_proj": "attn_output",
    **{f"mixer.{part}_proj": f"ffn_{part}" for part in ("up", "down")},
    **{f"mixer.shared_experts.{part}_proj": f"ffn_{part}_shexp" for part in ("up", "down")},
    "mixer.gate": "ffn_gate_inp",
}
_LLAMA4 = {
    "feed_forward.router": "ffn_gate_inp",
    **{f"feed_forward.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
    **{f"feed_forward.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
}
#: Stems of convolutions.
_CONVOLUTIONS = ("shortconv.conv", "ssm_conv1d")
_OTHERS: dict[str, dict[str, str]] = {
    "llama4": _LLAMA4,
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    **dict.fromkeys(GEMMA4, _GEMMA),
    **dict.fromkeys(
        ("olmo2", "olmo3", "exaone4"),
        {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"},
    ),
    **dict.fromkeys(("seed_oss", "glm4moe", "gpt-oss"), {"post_attention_layernorm": "post_attention_norm"}),
    "glm4": {"post_self_attn_layernorm": "post_attention_norm", "post_mlp_layernorm": "post_ffw_norm"},
    **dict.fromkeys(("lfm2", "lfm2moe"), _LFM2),
    **dict.fromkeys(("qwen35", "qwen35moe"), _QWEN35),
    "qwen3next": _QWEN3NEXT,
    "falcon-h1": {
        **_MAMBA,
        "pre_ff_layernorm": "ffn_norm",
        **{f"feed_forward.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
    },
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe", "mamba2"), _NEMOTRON_H),
    "granitehybrid": {**_MAMBA, "shared_mlp.input_linear": "ffn_gate", "shared_mlp.output_linear": "ffn_down"},
    "granitehybridmoe": {**_MAMBA, "shared_mlp.input_linear": "ffn_gate_shexp", "shared_mlp.output_linear": "ffn_down_shexp"},
}
_GPT2 = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}

#: Whose header says how large experts are.
_SIZED_EXPERTS = (
    "qwen3vlmoe", "dots1", "gemma4-a4b",
    "qwen3moe", "qwen2moe", "qwen35moe", "qwen3next", "ernie4_5-moe", "glm4moe", "bailingmoe2", "lfm2moe", "deepseek2", "deepseek2-lite",
)  # fmt: skip
#: What transformers calls biases that choose among experts.
_SELECTION_BIASES = ("e_score_correction_bias", "expert_bias")

#: Spread of a model's logits: its text is about as predictable as real text, with 20 likely tokens in place of one.
_LOGIT_SPREAD = 2.5
#: Spread of tied embeddings, times the root of their length: tokens must not predict themselves.
_TIED_SPREAD = 0.5
#: Spread of what limited gates and ups start from.
_EXPERT_SPREAD = 3.0
#: Spread of a router's logits: trained ones are decided, and the smallest change must not choose another expert of weight.
_ROUTER_SPREAD = 6.0


_GRANITE = {
    "embedding_multiplier": 3.0, "logits_scaling": 1.5, "residual_multiplier": 0.4, "attention_multiplier": 0.11,
}  # fmt: skip


def ministral_rope(factor: float, original: int) -> dict[str, Any]:
    """How Ministral's angles are scaled, and its queries grow behind the original context."""
    return {
        "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original, "mscale": 1.0,
        "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1, "beta_fast": 32.0, "beta_slow": 1.0,
    }  # fmt: skip


def make_config(
    architecture: str,
    *,
    hidden: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    head_size: int = 32,
    feed_forward: int = 96,
    layers: int = 2,
    vocabulary: int = 301,
    context: int = 128,
    window: int | None = None,
    experts: int = 8,
    used: int = 3,
    shared: int = 1,
    groups: int = 1,
    interval: int = 1,
    rotary: float = 1.0,
    parallel: bool = False,
    tied: bool = False,
    rope: dict[str, Any] | None = None,
    kernel: int = 4,
    embedding: int = 32,
    linear: tuple[int, int, int, int] = (2, 4, 32, 32),
    every: int = 2,
    latent: tuple[int, int, int, int] = (64, 16, 32, 32),
    rank: int = 32,
    dense: int = 1,
    period: int = 8192,
) -> Any:
    """A Hugging Face configuration.

    `embedding`: elements of a layer's embedding; `linear`: key heads, value heads, and elements of each, those of values times
    their heads a multiple of `hidden` in state spaces; `every`: every n-th layer has attention, or sees all; `latent`, `rank` and
    `dense`: see `latent_models`; `period`: positions behind which scores grow another time.
    """
    scaling: dict[str, Any] = {"rope_theta": 10_000.0, "rope_type": "default", **(rope or {})}
    common = {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": head_size, "vocab_size": vocabulary, "max_position_embeddings": context, "intermediate_size": feed_forward,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": tied, "rope_parameters": scaling, "attn_implementation": "eager",
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    match architecture:
        case "llama4":
            return transformers.Llama4TextConfig(
                **common, intermediate_size_mlp=feed_forward + 32, num_local_experts=experts, num_experts_per_tok=used,
                interleave_moe_layer_step=interval, attention_chunk_size=window or context, floor_scale=period,
                no_rope_layer_interval=every,
            )  # fmt: skip
        case "llama" | "internlm2":
            return transformers.LlamaConfig(**common)
        case "arcee":
            return transformers.ArceeConfig(**common)
        case "nemotron":
            scaling["partial_rotary_factor"] = rotary
            return transformers.NemotronConfig(**common, attention_bias=True, mlp_bias=True)
        case "gemma":
            return transformers.GemmaConfig(**{**common, "tie_word_embeddings": True})
        case "mixtral":
            return transformers.MixtralConfig(
                **common, num_local_experts=experts, num_experts_per_tok=used, sliding_window=None
            )
        case "qwen2" | "qwen2vl":
            return transformers.Qwen2Config(**common)
        case "qwen3" | "qwen3vl":
            return transformers.Qwen3Config(**common)
        case "qwen3moe" | "qwen3vlmoe":
            return transformers.Qwen3MoeConfig(
                **common, moe_intermediate_size=feed_forward, num_experts=experts, num_experts_per_tok=used, norm_topk_prob=True
            )
        case "olmoe":
            return transformers.OlmoeConfig(**common, num_experts=experts, num_experts_per_tok=used)
        case "dots1":
            return transformers.Dots1Config(
                **common, moe_intermediate_size=feed_forward, n_routed_experts=experts, num_experts_per_tok=used,
                n_shared_experts=shared, first_k_dense_replace=dense, norm_topk_prob=True, routed_scaling_factor=1.5,
                sliding_window=None,
            )  # fmt: skip
        case "glm4":
            scaling["partial_rotary_factor"] = rotary
            return transformers.Glm4Config(**common)
        case "qwen2moe":
            return transformers.Qwen2MoeConfig(
                **common, moe_intermediate_size=feed_forward, num_experts=experts, num_experts_per_tok=used,
                shared_expert_intermediate_size=shared * feed_forward,
            )  # fmt: skip
        case "hunyuan-moe":
            return transformers.HunYuanMoEV1Config(**common, num_experts=experts, moe_topk=used)
        case "ernie4_5-moe":
            return transformers.Ernie4_5_MoeConfig(
                **common, moe_intermediate_size=feed_forward, moe_num_experts=experts, moe_k=used, moe_num_shared_experts=shared,
                moe_layer_interval=interval,
            )  # fmt: skip
        case "glm4moe" | "bailingmoe2":
            scaling["partial_rotary_factor"] = rotary
            return transformers.Glm4MoeConfig(
                **common, moe_intermediate_size=feed_forward, n_routed_experts=experts, num_experts_per_tok=used,
                n_shared_experts=shared, routed_scaling_factor=1.5, n_group=groups, topk_group=max(groups - 1, 1),
                use_qk_norm=architecture == "bailingmoe2", attention_bias=architecture == "glm4moe",
            )  # fmt: skip
        case "deepseek2" | "deepseek2-lite":
            return latent_config(
                common, latent=latent, rank=rank if architecture == "deepseek2" else 0, feed_forward=feed_forward,
                experts=experts, used=used, shared=shared, groups=groups, dense=dense,
            )  # fmt: skip
        case "minimax-m2":
            scaling["partial_rotary_factor"] = rotary
            return transformers.MiniMaxM2Config(**common, num_local_experts=experts, num_experts_per_tok=used)
        case "gemma3":
            local = {"rope_theta": 10_000.0, "rope_type": "default"}
            common["rope_parameters"] = {"full_attention": {**scaling, "rope_theta": 1e6}, "sliding_attention": local}
            return transformers.Gemma3TextConfig(
                **{**common, "tie_word_embeddings": True}, query_pre_attn_scalar=head_size, sliding_window=window or context
            )
        case "gemma4" | "gemma4-a4b" | "gemma4-e2b":
            common["rope_parameters"] = {
                "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
                "sliding_attention": scaling,
            }
            alternating = {"layer_types": ["sliding_attention", "full_attention"] * (layers // 2)}
            mixture = alternating | {
                "enable_moe_block": True, "num_experts": experts, "top_k_experts": used, "moe_intermediate_size": feed_forward,
                "intermediate_size": feed_forward + 32,
            }  # fmt: skip
            # All layers but the first two share the keys and values of these.
            small = alternating | {
                "hidden_size_per_layer_input": embedding, "vocab_size_per_layer_input": vocabulary, "num_kv_shared_layers": layers - 2,
                "use_double_wide_mlp": True, "attention_k_eq_v": False,
            }  # fmt: skip
            changes = {"gemma4-a4b": mixture, "gemma4-e2b": small}.get(architecture, {})
            # Heads of layers that see all are twice as long, fewer, and their keys are values too.
            config = transformers.Gemma4TextConfig(
                **{
                    **common, "tie_word_embeddings": True, "sliding_window": window or context, "hidden_size_per_layer_input": 0,
                    "final_logit_softcapping": 4.0, "global_head_dim": 2 * head_size, "num_global_key_value_heads": 1,
                    "attention_k_eq_v": True, **changes,
                },
            )  # fmt: skip
            config.allow_global_per_layer_attribute_access = True
            return config
        case "phi3":
            scaling["partial_rotary_factor"] = rotary
            # Phi3Config puts its own number in the place of that of the parameters.
            original = scaling.get("original_max_position_embeddings", context)
            return transformers.Phi3Config(
                **common, sliding_window=window, resid_pdrop=0.0, original_max_position_embeddings=original
            )
        case "starcoder2":
            return transformers.Starcoder2Config(**common)
        case "stablelm":
            scaling["partial_rotary_factor"] = rotary
            return transformers.StableLmConfig(**common, use_parallel_residual=parallel, use_qkv_bias=True)
        case "phi2":
            scaling["partial_rotary_factor"] = rotary
            return transformers.PhiConfig(**common, resid_pdrop=0.0)
        case "command-r":
            return transformers.CohereConfig(**{**common, "tie_word_embeddings": True}, logit_scale=0.25)
        case "cohere2":
            return transformers.Cohere2Config(
                **{**common, "tie_word_embeddings": True}, logit_scale=0.25, sliding_window=window or context
            )
        case "smollm3":
            return transformers.SmolLM3Config(**common)
        case "granite":
            return transformers.GraniteConfig(**common, **_GRANITE)
        case "granitemoe":
            return transformers.GraniteMoeConfig(**common, **_GRANITE, num_local_experts=experts, num_experts_per_tok=used)
        case "granitehybrid" | "granitehybridmoe":
            return transformers.GraniteMoeHybridConfig(
                **common, **_GRANITE, **_state_space(hidden, linear, kernel), shared_intermediate_size=feed_forward,
                layer_types=["linear_attention" if n % every != every - 1 else "full_attention" for n in range(layers)],
                num_local_experts=experts if architecture == "granitehybridmoe" else 0, num_experts_per_tok=used,
            )  # fmt: skip
        case "nemotron_h" | "nemotron_h_moe":
            inner = "moe" if architecture == "nemotron_h_moe" else "mlp"
            kinds = [("linear_attention" if n % every != every - 1 else "full_attention", inner) for n in range(layers)]
            # One layer has no feed-forward.
            kinds[0] = kinds[0][:1]
            del common["num_hidden_layers"]
            return transformers.NemotronHConfig(
                **common, layers_block_type=[kind for pair in kinds for kind in pair], layer_norm_epsilon=1e-5,
                n_groups=linear[0], mamba_num_heads=linear[1], ssm_state_size=linear[2], mamba_head_dim=linear[3],
                conv_kernel=kernel, time_step_min=1e-20, moe_intermediate_size=feed_forward, n_routed_experts=experts,
                num_experts_per_tok=used, moe_shared_expert_intermediate_size=shared * feed_forward,
                routed_scaling_factor=1.5,
            )  # fmt: skip
        case "falcon-h1":
            # Powers of two, so that weights that are multiplied with them are as exact as those that are not.
            return transformers.FalconH1Config(
                **common, **_state_space(hidden, linear, kernel), mamba_d_ssm=linear[1] * linear[3],
                mamba_rms_norm=linear[0] > 1, mamba_norm_before_gate=False, lm_head_multiplier=0.5, embedding_multiplier=2.0,
                mlp_multipliers=[0.5, 2.0], key_multiplier=0.25, attention_in_multiplier=2.0, attention_out_multiplier=0.5,
                ssm_multipliers=[0.5, 2.0, 0.25, 4.0, 2.0], ssm_in_multiplier=0.5, ssm_out_multiplier=4.0,
            )  # fmt: skip
        case "mamba2":
            return transformers.Mamba2Config(
                vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, n_groups=linear[0], num_heads=linear[1],
                state_size=linear[2], head_dim=linear[3], expand=linear[1] * linear[3] // hidden, conv_kernel=kernel,
                tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2, pad_token_id=0,
            )  # fmt: skip
        case "ernie4_5":
            return transformers.Ernie4_5Config(**common)
        case "gpt-oss":
            common["rope_parameters"] = {**scaling, "truncate": False} if scaling["rope_type"] == "yarn" else scaling
            return transformers.GptOssConfig(
                **common, sliding_window=window or context, num_local_experts=experts, num_experts_per_tok=used
            )
        case "seed_oss":
            return transformers.SeedOssConfig(**common)
        case "hunyuan-dense":
            return transformers.HunYuanDenseV1Config(**common)
        case "mistral3":
            common["rope_parameters"] = {**scaling, **(rope or ministral_rope(factor=4.0, original=32))}
            return transformers.Ministral3Config(**common)
        case "olmo2":
            return transformers.Olmo2Config(**common)
        case "olmo3":
            return transformers.Olmo3Config(**common, sliding_window=window or context)
        case "exaone4":
            windows = {"sliding_window": window, "sliding_window_pattern": 4} if window else {"sliding_window": None}
            kinds = {} if window else {"layer_types": ["full_attention"] * layers}
            return transformers.Exaone4Config(**common, **windows, **kinds)
        case "gemma2":
            return transformers.Gemma2Config(
                **{**common, "tie_word_embeddings": True}, query_pre_attn_scalar=head_size, sliding_window=window or context,
                final_logit_softcapping=4.0, attn_logit_softcapping=2.0,
            )  # fmt: skip
        case "lfm2":
            kinds = {"layer_types": ["conv" if n % every != every - 1 else "full_attention" for n in range(layers)]}
            return transformers.Lfm2Config(**common, **kinds, conv_L_cache=kernel, block_auto_adjust_ff_dim=False)
        case "lfm2moe":
            kinds = {"layer_types": ["conv" if n % every != every - 1 else "full_attention" for n in range(layers)]}
            return transformers.Lfm2MoeConfig(
                **common, **kinds, conv_L_cache=kernel, moe_intermediate_size=feed_forward, num_experts=experts,
                num_experts_per_tok=used, num_dense_layers=1,
            )  # fmt: skip
        case "qwen35" | "qwen35moe" | "qwen3next":
            scaling["partial_rotary_factor"] = rotary
            mixture = {
                "moe_intermediate_size": feed_forward, "num_experts": experts, "num_experts_per_tok": used,
                "shared_expert_intermediate_size": shared * feed_forward,
            }  # fmt: skip
            kinds = {"qwen35moe": transformers.Qwen3_5MoeTextConfig, "qwen3next": transformers.Qwen3NextConfig}
            kind = kinds.get(architecture, transformers.Qwen3_5TextConfig)
            return kind(
                **common, **(mixture if architecture in kinds else {}), linear_num_key_heads=linear[0], linear_num_value_heads=linear[1], linear_key_head_dim=linear[2],
                linear_value_head_dim=linear[3], linear_conv_kernel_dim=kernel,
                layer_types=["linear_attention" if n % every != every - 1 else "full_attention" for n in range(layers)],
                full_attention_interval=every,
            )  # fmt: skip
        case "gpt2":
            return transformers.GPT2Config(
                n_embd=hidden, n_layer=layers, n_head=heads, n_inner=feed_forward, vocab_size=vocabulary, n_positions=context,
                bos_token_id=1, eos_token_id=2, attn_implementation="eager",
            )  # fmt: skip
    raise ValueError(architecture)


def _state_space(hidden: int, linear: tuple[int, int, int, int], kernel: int) -> dict[str, Any]:
    groups, heads, state, size = linear
    return {
        "mamba_n_groups": groups, "mamba_n_heads": heads, "mamba_d_state": state, "mamba_d_head": size,
        "mamba_expand": heads * size // hidden, "mamba_d_conv": kernel,
    }  # fmt: skip


def make_model(path: Path, architecture: str, *, seed: int = 1, format: str = "Q8_0", **sizes: Any) -> Any:
    """Make a random model, and write it to a GGUF file with matrices of a format.

    Returns
    -------
    PreTrainedModel
        In float32, with the weights that the file has.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    config = make_config(architecture, **sizes)
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False).float()
    values = header_values(architecture, config)
    tensors = _rope_factors(config)
    for parameter, tensor in (*model.named_parameters(), *_selection_biases(model)):
        tensors += _filled(architecture, config, parameter, tensor, format, random)
    for name, buffer in model.named_buffers():
        if name.endswith("layer_scalar"):
            buffer.copy_(torch.tensor(random.uniform(0.5, 1.5, 1), dtype=torch.float32))
            tensors.append(tensor_of(f"blk.{name.split('.')[-2]}.layer_output_scale.weight", buffer.numpy()))
    model.tie_weights()
    tensors = _with_fused_qkv(tensors) if architecture == "bailingmoe2" else tensors
    write_gguf(path, gguf_name(architecture), values, tensors)
    return model


def header_values(architecture: str, config: Any) -> dict[str, Any]:
    """What a converter says of a model, and the tokenizer that all of them have."""
    return {**_header(architecture, config), **_tokenizer(config.vocab_size)}


def _selection_biases(model: Any) -> list[tuple[str, Any]]:
    """Biases that choose among experts, where they are no parameters."""
    return [(name, tensor) for name, tensor in model.named_buffers() if name.endswith(_SELECTION_BIASES)]


def _with_fused_qkv(tensors: list[NewTensor]) -> list[NewTensor]:
    """The rows of q, k and v one after the other."""
    parts = {t.name: t for t in tensors if t.name.split(".")[-2] in ("attn_q", "attn_k", "attn_v")}
    fused = []
    for name, q in parts.items():
        if name.endswith("attn_q.weight"):
            rows = [parts[name.replace("attn_q", f"attn_{part}")] for part in "qkv"]
            data = np.concatenate([part.data for part in rows if part.data is not None])
            shape = (sum(part.shape[0] for part in rows), q.shape[1])
            fused.append(replace(q, name=name.replace("attn_q", "attn_qkv"), shape=shape, data=data))
    return [t for t in tensors if t.name not in parts] + fused


def gguf_name(architecture: str) -> str:
    """``general.architecture`` of the files of a random model."""
    names = {"mixtral": "llama", "olmo3": "olmo2", "granitehybridmoe": "granitehybrid", "deepseek2-lite": "deepseek2"}
    return ({**names, **dict.fromkeys(GEMMA4, "gemma4")}).get(architecture, architecture)


def _header(architecture: str, config: Any) -> dict[str, Any]:
    """What a converter says of the model, without the tokenizer."""
    if architecture == "mamba2":
        return {f"mamba2.{key}": value for key, value in _of_mamba2(config).items()}
    values: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": getattr(config, "intermediate_size", None) or config.n_inner,
        "attention.head_count": config.num_attention_heads,
        "vocab_size": config.vocab_size,
    }
    epsilons = {"gpt2": "layer_norm_epsilon", "starcoder2": "norm_epsilon", "nemotron": "norm_eps"}
    if architecture.startswith("nemotron_h"):
        values["attention.layer_norm_rms_epsilon"] = config.layer_norm_epsilon
    epsilons |= dict.fromkeys(("phi2", "stablelm", "command-r", "cohere2"), "layer_norm_eps")
    if architecture in epsilons:
        values["attention.layer_norm_epsilon"] = getattr(config, epsilons[architecture])
    elif "attention.layer_norm_rms_epsilon" not in values:
        values["attention.layer_norm_rms_epsilon"] = config.rms_norm_eps
    if architecture != "gpt2":
        values |= _rotated(architecture, config)
    values |= _scalars(architecture, config)
    values |= _recurrent(architecture, config)
    if architecture in MIXTURES:
        values |= _experts(architecture, config)
    return {f"{gguf_name(architecture)}.{key}": value for key, value in values.items()}


def _of_mamba2(config: Any) -> dict[str, Any]:
    """The whole header of a model without attention."""
    return {
        "block_count": config.num_hidden_layers, "context_length": 1 << 20, "embedding_length": config.hidden_size,
        "feed_forward_length": 0, "attention.head_count": config.num_heads, "vocab_size": config.vocab_size,
        "attention.layer_norm_rms_epsilon": config.layer_norm_epsilon, "ssm.conv_kernel": config.conv_kernel,
        "ssm.inner_size": config.num_heads * config.head_dim, "ssm.state_size": config.state_size,
        "ssm.time_step_rank": config.num_heads, "ssm.group_count": config.n_groups,
    }  # fmt: skip


def _experts(architecture: str, config: Any) -> dict[str, Any]:
    """What a header says of experts."""
    values = {
        "expert_count": getattr(config, "n_routed_experts", None)
        or getattr(config, "num_local_experts", None)
        or config.num_experts,
        "expert_used_count": config.top_k_experts if architecture in GEMMA4 else config.num_experts_per_tok,
    }
    if architecture in _SIZED_EXPERTS:
        values["expert_feed_forward_length"] = config.moe_intermediate_size
    if architecture in ("gpt-oss", "llama4"):
        values["expert_feed_forward_length"] = config.intermediate_size
    if architecture == "llama4":
        values["feed_forward_length"] = config.intermediate_size_mlp
        values["interleave_moe_layer_step"] = config.interleave_moe_layer_step
    match architecture:
        case "qwen2moe" | "qwen35moe" | "qwen3next":
            values["expert_shared_feed_forward_length"] = config.shared_expert_intermediate_size
        case "nemotron_h_moe":
            values |= {
                "expert_count": config.n_routed_experts, "expert_feed_forward_length": config.moe_intermediate_size,
                "expert_shared_feed_forward_length": config.moe_shared_expert_intermediate_size, "expert_shared_count": 1,
                "expert_weights_norm": config.norm_topk_prob, "expert_weights_scale": config.routed_scaling_factor,
                "expert_group_count": config.n_group,
            }  # fmt: skip
        case "granitehybridmoe":
            values["expert_shared_feed_forward_length"] = config.shared_intermediate_size
        case "hunyuan-moe":
            values["expert_feed_forward_length"] = values["expert_shared_feed_forward_length"] = config.intermediate_size
            values["expert_shared_count"] = 1
        case "ernie4_5-moe":
            values |= {
                "expert_shared_count": config.moe_num_shared_experts,
                "expert_shared_feed_forward_length": config.moe_num_shared_experts * config.moe_intermediate_size,
                "leading_dense_block_count": config.moe_layer_start_index,
                "interleave_moe_layer_step": config.moe_layer_interval,
            }
        case "deepseek2-lite":
            values |= {
                "expert_shared_count": config.n_shared_experts, "expert_weights_scale": config.routed_scaling_factor,
                "leading_dense_block_count": config.first_k_dense_replace,
            }  # fmt: skip
        case "glm4moe" | "bailingmoe2" | "deepseek2" | "dots1":
            values |= {
                "expert_shared_count": config.n_shared_experts, "expert_weights_scale": config.routed_scaling_factor,
                "expert_weights_norm": config.norm_topk_prob, "expert_gating_func": 2, "expert_group_count": config.n_group,
                "expert_group_used_count": config.topk_group, "leading_dense_block_count": config.first_k_dense_replace,
            }  # fmt: skip
        case "lfm2moe":
            values |= {"expert_gating_func": 2, "leading_dense_block_count": config.num_dense_layers}
        case "minimax-m2":
            values |= {"expert_feed_forward_length": config.intermediate_size, "expert_gating_func": 2}
    return values


def _recurrent(architecture: str, config: Any) -> dict[str, Any]:
    """What a header says of layers without a KV cache."""
    match architecture:
        case "lfm2" | "lfm2moe":
            heads = [config.num_key_value_heads * (kind == "full_attention") for kind in config.layer_types]
            return {"shortconv.l_cache": config.conv_L_cache, "attention.head_count_kv": heads}
        case "nemotron_h" | "nemotron_h_moe":
            inner = config.moe_intermediate_size if architecture == "nemotron_h_moe" else config.intermediate_size
            kinds = config.layers_block_type
            return {
                "ssm.conv_kernel": config.conv_kernel, "ssm.state_size": config.ssm_state_size,
                "ssm.group_count": config.n_groups, "ssm.time_step_rank": config.mamba_num_heads,
                "ssm.inner_size": config.mamba_num_heads * config.mamba_head_dim, "rope.scaling.finetuned": False,
                "attention.head_count_kv": [config.num_key_value_heads * (kind == "full_attention") for kind in kinds],
                "feed_forward_length": [inner * (kind in ("mlp", "moe")) for kind in kinds],
            }  # fmt: skip
        case "falcon-h1":
            return {
                "ssm.conv_kernel": config.mamba_d_conv, "ssm.state_size": config.mamba_d_state,
                "ssm.group_count": config.mamba_n_groups, "ssm.time_step_rank": config.mamba_n_heads,
                "ssm.inner_size": config.mamba_d_ssm,
            }  # fmt: skip
        case "granitehybrid" | "granitehybridmoe":
            return {
                "ssm.conv_kernel": config.mamba_d_conv, "ssm.state_size": config.mamba_d_state,
                "ssm.group_count": config.mamba_n_groups, "ssm.time_step_rank": config.mamba_n_heads,
                "ssm.inner_size": config.mamba_n_heads * config.mamba_d_head, "rope.scaling.finetuned": False,
                "attention.head_count_kv": [
                    config.num_key_value_heads * (kind == "full_attention") for kind in config.layer_types
                ],
            }  # fmt: skip
        case "qwen35" | "qwen35moe" | "qwen3next":
            return {
                "ssm.conv_kernel": config.linear_conv_kernel_dim, "ssm.state_size": config.linear_key_head_dim,
                "ssm.group_count": config.linear_num_key_heads, "ssm.time_step_rank": config.linear_num_value_heads,
                "ssm.inner_size": config.linear_num_value_heads * config.linear_value_head_dim,
                "full_attention_interval": config.full_attention_interval,
                **({} if architecture == "qwen3next" else {"rope.dimension_sections": [11, 11, 10, 0]}),
            }  # fmt: skip
    return {}


def _scalars(architecture: str, config: Any) -> dict[str, Any]:
    match architecture:
        case "granite" | "granitemoe" | "granitehybrid" | "granitehybridmoe":
            return {
                "embedding_scale": config.embedding_multiplier, "logit_scale": config.logits_scaling,
                "residual_scale": config.residual_multiplier, "attention.scale": config.attention_multiplier,
            }  # fmt: skip
        case "command-r" | "cohere2":
            return {"logit_scale": config.logit_scale}
        case "gemma4" | "gemma4-a4b" | "gemma4-e2b":
            return {"final_logit_softcapping": config.final_logit_softcapping}
        case "gemma2":
            return {
                "final_logit_softcapping": config.final_logit_softcapping,
                "attn_logit_softcapping": config.attn_logit_softcapping,
            }
        case "mistral3":
            parameters = config.rope_parameters
            return {
                "attention.temperature_scale": parameters["llama_4_scaling_beta"],
                "rope.scaling.yarn_log_multiplier": parameters["mscale_all_dim"],
            }
        case "stablelm":
            return {"use_parallel_residual": config.use_parallel_residual}
        case "llama4":
            # What converters leave unsaid where it is as in the published models.
            return {
                "use_qk_norm": config.use_qk_norm, "attention.chunk_size": config.attention_chunk_size,
                "attention.temperature_scale": config.attn_scale, "attention.temperature_length": config.floor_scale,
                "attention.sliding_window_pattern": [kind == "chunked_attention" for kind in config.layer_types],
            }  # fmt: skip
    return {}


def _rotated(architecture: str, config: Any) -> dict[str, Any]:
    """What a header says of windows, heads and RoPE."""
    values: dict[str, Any] = {}
    head_size, parameters = config.head_dim, config.rope_parameters
    if "full_attention" in parameters:
        parameters = parameters["full_attention"]
    if architecture in ("gemma2", "gemma3", "cohere2", "olmo3", "gpt-oss", *GEMMA4) or (
        architecture == "exaone4" and config.sliding_window
    ):
        values["attention.sliding_window"] = config.sliding_window
    if architecture in ("olmo3", "exaone4") and config.sliding_window:
        values["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in config.layer_types]
    if architecture == "phi3":
        values["attention.sliding_window"] = config.sliding_window or 0
    values["attention.head_count_kv"] = config.num_key_value_heads
    values["rope.freq_base"] = float(parameters["rope_theta"])
    values["rope.dimension_count"] = int(head_size * parameters.get("partial_rotary_factor", 1.0))
    if architecture != "phi3":
        values["attention.key_length"] = values["attention.value_length"] = head_size
    if architecture in ("qwen2vl", "qwen3vl", "qwen3vlmoe"):
        values["rope.dimension_sections"] = [head_size // 8, head_size // 8, head_size // 4, 0]
    if architecture in ("qwen3vl", "qwen3vlmoe"):
        values["n_deepstack_layers"] = 3
    kind, original = parameters["rope_type"], parameters.get("original_max_position_embeddings")
    if kind in ("linear", "yarn"):
        values["rope.scaling.type"] = kind
        values["rope.scaling.factor"] = float(parameters["factor"])
    if kind in ("yarn", "longrope"):
        values["rope.scaling.original_context_length"] = original
    if kind == "longrope":
        extension = config.max_position_embeddings / original
        values["rope.scaling.attn_factor"] = sqrt(1 + log(extension) / log(original))
    values |= latent_header(config) if architecture in ("deepseek2", "deepseek2-lite") else {}
    return values | (_by_kind_of_layer(config) if architecture in GEMMA4 else {})


def _by_kind_of_layer(config: Any) -> dict[str, Any]:
    """What a header says of sizes that windowed layers do not share with the others."""
    windowed, local = [kind == "sliding_attention" for kind in config.layer_types], config.head_dim
    whole = next(config.per_layer_config[n].head_dim for n, apart in enumerate(windowed) if not apart)
    return {
        "attention.sliding_window_pattern": windowed,
        "attention.head_count_kv": [config.per_layer_config[n].num_key_value_heads for n in range(len(windowed))],
        "attention.key_length": whole, "attention.value_length": whole, "rope.dimension_count": whole,
        "attention.key_length_swa": local, "attention.value_length_swa": local, "rope.dimension_count_swa": local,
        "rope.freq_base_swa": float(config.rope_parameters["sliding_attention"]["rope_theta"]),
        "attention.shared_kv_layers": config.num_kv_shared_layers,
        "embedding_length_per_layer_input": config.hidden_size_per_layer_input,
        "feed_forward_length": _feed_forward_sizes(config),
    }  # fmt: skip


def _feed_forward_sizes(config: Any) -> list[int]:
    """Layers that share keys and values may have a feed-forward twice as large."""
    first = config.num_hidden_layers - config.num_kv_shared_layers
    wide = config.use_double_wide_mlp
    return [config.intermediate_size * (2 if wide and n >= first else 1) for n in range(config.num_hidden_layers)]


def _rope_factors(config: Any) -> list[NewTensor]:
    parameters = getattr(config, "rope_parameters", {})
    whole = parameters.get("full_attention", {})
    if whole.get("rope_type") == "proportional":
        # As the converter says that most pairs do not turn.
        size = max(config.per_layer_config[n].head_dim for n in range(config.num_hidden_layers)) // 2
        turning = int(size * whole["partial_rotary_factor"])
        return [tensor_of("rope_freqs.weight", np.where(np.arange(size) < turning, 1.0, 1e30))]
    if parameters.get("rope_type") != "longrope":
        return []
    return [tensor_of(f"rope_factors_{name}.weight", np.array(parameters[f"{name}_factor"])) for name in ("long", "short")]


def _tokenizer(vocabulary: int) -> dict[str, Any]:
    tokens = [*SPECIAL, *byte_alphabet(), "ab"]
    tokens += [f"<unused{i}>" for i in range(vocabulary - len(tokens))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens[:vocabulary],
        "tokenizer.ggml.token_type": [3 if t.startswith("<") and len(t) > 1 else 1 for t in tokens[:vocabulary]],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _filled(architecture: str, config: Any, parameter: str, tensor: Any, kind: str, random: Any) -> list[NewTensor]:
    """Fill a parameter with random weights that a file can hold; what the file has of it."""
    *modules, leaf = parameter.removeprefix("model.").removeprefix("transformer.").removeprefix("backbone.").split(".")
    layer = next((int(m) for m in modules if m.isdigit()), None)
    module = ".".join(modules[2:] if layer is not None else modules)
    experts = module.endswith("experts")
    if architecture in ("gpt-oss", "llama4") and experts:
        in_turn = architecture == "gpt-oss"
        return _filled_transposed_experts(f"blk.{layer}.ffn", leaf, tensor, kind, random, in_turn)
    if leaf == "sinks":
        return [_filled_vector(architecture, config, f"blk.{layer}.attn_sinks.weight", tensor, random)]
    names = {**_COMMON, **(_OTHERS.get(architecture, {}) if layer is not None else {})}
    names = _GPT2 if architecture == "gpt2" else names
    if leaf == "per_expert_scale":
        return [_filled_vector(architecture, config, f"blk.{layer}.ffn_down_exps.scale", tensor, random)]
    if leaf in _SELECTION_BIASES:
        return [_filled_vector(architecture, config, f"blk.{layer}.exp_probs_b.bias", tensor.view(-1), random)]
    prefix = "" if layer is None else f"blk.{layer}."
    stem = (
        {"gate_up_proj": "", "down_proj": "ffn_down_exps", "up_proj": "ffn_up_exps"}[leaf] if experts else names.get(module, "")
    )
    if module == "self_attn.kv_b_proj":
        assert layer is not None
        return filled_keys_and_values(config, layer, tensor, kind, random)
    if leaf in ("A_log", "dt_bias", "D"):
        return [_filled_decay(config, prefix, leaf, tensor, random)]
    if tensor.ndim == 1:
        vector = _filled_vector(architecture, config, f"{prefix}{stem}.{leaf}", tensor, random)
        if architecture == "falcon-h1" and stem == "ffn_norm":
            return [replace(vector, name=f"{prefix}{stem}")]
        if stem == "ssm_norm" and (groups := _groups(config)):
            return [replace(vector, shape=(groups, len(tensor) // groups))]
        return [vector]
    transposed = architecture == "gpt2" and layer is not None
    shape = tensor.shape[::-1] if transposed else tensor.shape
    if stem in _CONVOLUTIONS:
        shape = (shape[0], shape[-1])
    # Where the norms before them leave 1, products have these spreads.
    embedding = _TIED_SPREAD if config.tie_word_embeddings else shape[-1] ** 0.5
    parts = config.num_hidden_layers**0.5 if stem == "per_layer_token_embd" else 1.0
    spread = {"output": _LOGIT_SPREAD, "ffn_gate_inp": _ROUTER_SPREAD, "token_embd": embedding}.get(stem, parts)
    values = (random.standard_normal(shape) * spread * shape[-1] ** -0.5).astype(np.float32)
    # As converters leave them.
    plain = stem in ("position_embd", "ffn_gate_inp", "ffn_gate_inp_shexp", *_CONVOLUTIONS)
    whole = tensor_of(f"{prefix}{stem}.weight", values, "F32" if plain else kind)
    data = whole.data
    assert data is not None
    held = torch.from_numpy(dequantise(data, TENSOR_TYPE_NUMBERS[whole.type_name]).reshape(shape))
    own = _grouped(config, stem, held.T if transposed else held).reshape(tensor.shape)
    tensor.copy_(own / _multiplier(config, stem, shape[0]) if architecture == "falcon-h1" else own)
    if experts and not stem and architecture in GEMMA4:
        return [replace(whole, name=f"{prefix}ffn_gate_up_exps.weight")]
    if experts and not stem:
        half = shape[1] // 2
        parts = (("gate", data[:, :half]), ("up", data[:, half:]))
        return [NewTensor(f"{prefix}ffn_{part}_exps.weight", (shape[0], half, shape[2]), kind, rows) for part, rows in parts]
    if module.endswith("in_proj_qkvz"):
        return _apart(config, prefix, data, shape[1], kind)
    if module.endswith("shared_mlp.input_linear"):
        half, (ffn, _, end) = shape[0] // 2, stem.partition("gate")
        parts = (("gate", data[:half]), ("up", data[half:]))
        return [NewTensor(f"{prefix}{ffn}{part}{end}.weight", (half, shape[1]), kind, rows) for part, rows in parts]
    return [replace(whole, data=_ordered(architecture, config, stem, data))]


def _apart(config: Any, prefix: str, data: NDArray[Any], columns: int, kind: str) -> list[NewTensor]:
    """Rows of queries, keys, values and gates, which lie side by side for each key head."""
    heads, ratio = config.linear_num_key_heads, config.linear_num_value_heads // config.linear_num_key_heads
    key, values = config.linear_key_head_dim, ratio * config.linear_value_head_dim
    parts = np.split(data.reshape(heads, 2 * key + 2 * values, -1), [key, 2 * key, 2 * key + values], axis=1)
    rows = [part.reshape(-1, data.shape[-1]) for part in parts]
    tensors = (("attn_qkv", np.concatenate(rows[:3])), ("attn_gate", rows[3]))
    return [NewTensor(f"{prefix}{name}.weight", (len(part), columns), kind, part) for name, part in tensors]


def _filled_transposed_experts(
    start: str, leaf: str, tensor: Any, kind: str, random: Any, in_turn: bool
) -> list[NewTensor]:  # fmt: skip
    """Experts that have their columns first, maybe with biases: what the file has of them, all of which is filled."""
    parts = ("gate", "up") if leaf.startswith("gate_up") else ("down",)
    found = []
    for n, part in enumerate(parts):
        # Each part has every second column, or they follow each other.
        place = tensor[..., n :: len(parts)] if in_turn else tensor.chunk(len(parts), dim=-1)[n]
        if leaf.endswith("bias"):
            values = (random.standard_normal(place.shape) * 0.5).astype(np.float32)
            place.copy_(torch.from_numpy(values))
            found.append(tensor_of(f"{start}_{part}_exps.bias", values))
            continue
        columns = place.shape[1]
        values = (random.standard_normal((place.shape[0], place.shape[2], columns)) * columns**-0.5).astype(np.float32)
        # Far enough for the limit to be met, where there is one.
        spread = _EXPERT_SPREAD if in_turn and part != "down" else 1
        whole = tensor_of(f"{start}_{part}_exps.weight", values * spread, kind)
        assert whole.data is not None
        held = dequantise(whole.data, TENSOR_TYPE_NUMBERS[whole.type_name]).reshape(values.shape)
        place.copy_(torch.from_numpy(held).transpose(1, 2))
        found.append(whole)
    return found


def _filled_vector(architecture: str, config: Any, name: str, tensor: Any, random: Any) -> NewTensor:
    values = (random.standard_normal(len(tensor)) * 0.2).astype(np.float32)
    if "norm" in name.split(".")[-2] and name.endswith("weight") or name.endswith(".scale"):
        values += np.float32(1)
    if name.endswith("ffn_gate_inp.scale"):
        # The router's input is divided by the root of its length.
        values *= np.float32(len(tensor) ** 0.5)
    if architecture in GEMMA4 and name.endswith(("attn_q_norm.weight", "attn_k_norm.weight")):
        # Scores are not divided by the root of a head's size: trained norms do that.
        values *= np.float32(len(tensor) ** -0.25)
    if name in ("output_norm.weight", "token_embd_norm.weight") and config.tie_word_embeddings:
        values *= np.float32(_LOGIT_SPREAD / _TIED_SPREAD)
    # Gemma's files hold one more than its parameters, and so do those of Qwen 3.5 but for one of its norms.
    more = (
        architecture in ("gemma", "gemma2", "gemma3", "nemotron")
        and name.endswith("weight")
        or (architecture in ("qwen35", "qwen35moe", "qwen3next") and "ssm_norm" not in name)
    )
    tensor.copy_(torch.from_numpy(values - np.float32(1) if more else values))
    return tensor_of(name, _ordered(architecture, config, name.split(".")[-2], values))


def _multiplier(config: Any, stem: str, rows: int) -> Any:
    """What the converter multiplies a matrix of Falcon-H1 with, so that nothing else need be."""
    attention = config.attention_in_multiplier
    if stem == "ssm_in":
        state = config.mamba_n_groups * config.mamba_d_state
        sizes = torch.tensor([config.mamba_d_ssm, config.mamba_d_ssm, state, state, config.mamba_n_heads])
        factors = torch.repeat_interleave(torch.tensor(config.ssm_multipliers), sizes)
        assert len(factors) == rows
        return factors[:, None] * config.ssm_in_multiplier
    return {
        "attn_q": attention, "attn_v": attention, "attn_k": attention * config.key_multiplier,
        "attn_output": config.attention_out_multiplier, "ssm_out": config.ssm_out_multiplier,
        "ffn_gate": config.mlp_multipliers[0], "ffn_down": config.mlp_multipliers[1],
        "token_embd": config.embedding_multiplier, "output": config.lm_head_multiplier,
    }.get(stem, 1.0)  # fmt: skip


def _groups(config: Any) -> int:
    """Groups of a state space; 0: it is none."""
    groups: int = getattr(config, "mamba_n_groups", None) or getattr(config, "n_groups", 0)
    return groups


def _filled_decay(config: Any, prefix: str, leaf: str, tensor: Any, random: Any) -> NewTensor:
    """What decays of linear attention come from, and skips; the file has minus their exponentials."""
    values = random.standard_normal(len(tensor)).astype(np.float32)
    tensor.copy_(_grouped(config, leaf, torch.from_numpy(values)))
    if leaf == "dt_bias":
        return tensor_of(f"{prefix}ssm_dt.bias", values)
    shape = (-1, 1) if _groups(config) else (-1,)
    return tensor_of(f"{prefix}ssm_{'d' if leaf == 'D' else 'a'}", (values if leaf == "D" else -np.exp(values)).reshape(shape))


def _grouped(config: Any, stem: str, tensor: Any) -> Any:
    """A tensor with the value heads of linear attention side by side for each key head; the file has them in turn."""
    sizes = {
        "attn_gate": 0,
        "ssm_alpha": 0,
        "ssm_beta": 0,
        "A_log": 0,
        "dt_bias": 0,
        "ssm_out": 1,
        "attn_qkv": 0,
        "ssm_conv1d": 0,
    }
    if stem not in sizes or not config.model_type.startswith("qwen3_5"):
        return tensor
    heads, ratio = config.linear_num_key_heads, config.linear_num_value_heads // config.linear_num_key_heads
    first = 2 * heads * config.linear_key_head_dim if stem in ("attn_qkv", "ssm_conv1d") else 0
    place = torch.arange(first, tensor.shape[sizes[stem]]).reshape(ratio, heads, -1).swapaxes(0, 1).reshape(-1)
    return tensor.index_select(sizes[stem], torch.cat([torch.arange(first), place]))


def _ordered(architecture: str, config: Any, stem: str, rows: NDArray[Any]) -> NDArray[Any]:
    """Rows in the order of the file."""
    if architecture not in _PAIRED or stem not in ("attn_q", "attn_k"):
        return rows
    heads = config.num_attention_heads if stem == "attn_q" else config.num_key_value_heads
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))
