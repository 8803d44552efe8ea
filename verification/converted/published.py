"""Configurations as the makers of models publish them: what transformers' own say otherwise, or leave out."""

from typing import Any

from verification.unit.host.architectures import GEMMA4

#: Classes that files with images beside the text name, and whose part for text transformers has by itself.
_WITH_IMAGES = {
    "qwen2vl": "Qwen2VLForConditionalGeneration",
    "qwen3vl": "Qwen3VLForConditionalGeneration",
    "qwen3vlmoe": "Qwen3VLMoeForConditionalGeneration",
}
#: Of Nemotron-H: what only mixtures say, and characters of kinds of layers.
_WITHOUT_EXPERTS = ("num_experts_per_tok", "n_routed_experts", "n_group", "topk_group")
_PATTERN = {"linear_attention": "M", "full_attention": "*", "mlp": "-", "moe": "E"}


def published(architecture: str, config: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a published model with these sizes.

    Parameters
    ----------
    architecture : str
    config : dict
        As transformers saves it.
    sizes : dict
        Arguments of `verification.unit.host.transformers_models.make_model`.
    """
    left_out = _WITHOUT_EXPERTS if architecture == "nemotron_h" else ()
    whole = {**config, **_changes(architecture, config, sizes)}
    return {key: value for key, value in whole.items() if key not in left_out}


def _changes(architecture: str, config: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    layers = config.get("num_hidden_layers", 0)
    match architecture:
        case "hunyuan-moe":
            return {
                "moe_intermediate_size": [config["intermediate_size"]] * layers,
                "moe_topk": [config["moe_topk"]] * layers,
                "num_shared_expert": [1] * layers,
            }
        case "granitehybrid" | "granitehybridmoe":
            names = {"linear_attention": "mamba", "full_attention": "attention"}
            used = config["num_experts_per_tok"] if config["num_local_experts"] else 0
            return {"layer_types": [names[kind] for kind in config["layer_types"]], "num_experts_per_tok": used}
        case "nemotron_h" | "nemotron_h_moe":
            pattern = "".join(_PATTERN[kind] for kind in config["layers_block_type"])
            return {"hybrid_override_pattern": pattern, "num_hidden_layers": len(pattern)}
        case "minimax-m2":
            return {"rotary_dim": sizes["head_size"] // 2, "scoring_func": "sigmoid"}
        case "deepseek2" | "dots1":
            return {"scoring_func": "sigmoid"}
        case "internlm2":
            return {"architectures": ["InternLM2ForCausalLM"]}
        case "bailingmoe2":
            experts = {
                f"num{kind}_experts": config[f"n{name}_experts"] for kind, name in (("", "_routed"), ("_shared", "_shared"))
            }
            return experts | {
                "architectures": ["BailingMoeV2ForCausalLM"],
                "model_type": "bailing_moe",
                "score_function": "sigmoid",
                "num_nextn_predict_layers": 0,
            }
        case "glm4moe":
            return {"num_nextn_predict_layers": 0}
        case "cohere2":
            return {"rotary_pct": 1.0}
        case "gpt2":
            return {"n_ctx": config["n_positions"]}
    if architecture in GEMMA4:
        # What transformers writes layer by layer.
        whole = {"num_global_key_value_heads": 1} if config["attention_k_eq_v"] else {}
        return whole | {"global_head_dim": 2 * sizes["head_size"]}
    if architecture in _WITH_IMAGES:
        eighth = sizes["head_size"] // 8
        sections = {**config["rope_parameters"], "mrope_section": [eighth, eighth, 2 * eighth]}
        return {"architectures": [_WITH_IMAGES[architecture]], "rope_parameters": sections}
    return {}
