"""Small random models of every architecture, as Hugging Face has them and as a converter writes them to GGUF."""

from math import log, sqrt
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from .tiny_models import SPECIAL, byte_alphabet

#: Those that have a description; "starcoder2", which has none, can be made as well.
ARCHITECTURES = ("llama", "mixtral", "qwen2", "qwen3", "qwen3moe", "gemma3", "phi3", "gpt2")

_COMMON = {
    "embed_tokens": "token_embd",
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
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
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

#: Spread of a model's logits: its text is about as predictable as real text, with 20 likely tokens in place of one.
_LOGIT_SPREAD = 2.5
#: Spread of tied embeddings, times the root of their length: tokens must not predict themselves.
_TIED_SPREAD = 0.5
#: Spread of a router's logits: trained ones are decided, and the smallest change must not choose another expert of weight.
_ROUTER_SPREAD = 6.0


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
    rotary: float = 1.0,
    tied: bool = False,
    rope: dict[str, Any] | None = None,
) -> Any:
    """A Hugging Face configuration."""
    scaling = {"rope_theta": 10_000.0, "rope_type": "default", **(rope or {})}
    common = {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": head_size, "vocab_size": vocabulary, "max_position_embeddings": context, "intermediate_size": feed_forward,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": tied, "rope_parameters": scaling, "attn_implementation": "eager",
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    match architecture:
        case "llama":
            return transformers.LlamaConfig(**common)
        case "mixtral":
            return transformers.MixtralConfig(
                **common, num_local_experts=experts, num_experts_per_tok=used, sliding_window=None
            )
        case "qwen2":
            return transformers.Qwen2Config(**common)
        case "qwen3":
            return transformers.Qwen3Config(**common)
        case "qwen3moe":
            return transformers.Qwen3MoeConfig(
                **common, moe_intermediate_size=feed_forward, num_experts=experts, num_experts_per_tok=used, norm_topk_prob=True
            )
        case "gemma3":
            local = {"rope_theta": 10_000.0, "rope_type": "default"}
            common["rope_parameters"] = {"full_attention": {**scaling, "rope_theta": 1e6}, "sliding_attention": local}
            return transformers.Gemma3TextConfig(
                **{**common, "tie_word_embeddings": True}, query_pre_attn_scalar=head_size, sliding_window=window or context
            )
        case "phi3":
            scaling["partial_rotary_factor"] = rotary
            # Phi3Config puts its own number in the place of that of the parameters.
            original = scaling.get("original_max_position_embeddings", context)
            return transformers.Phi3Config(
                **common, sliding_window=window, resid_pdrop=0.0, original_max_position_embeddings=original
            )
        case "starcoder2":
            return transformers.Starcoder2Config(**common)
        case "gpt2":
            return transformers.GPT2Config(
                n_embd=hidden, n_layer=layers, n_head=heads, n_inner=feed_forward, vocab_size=vocabulary, n_positions=context,
                bos_token_id=1, eos_token_id=2, attn_implementation="eager",
            )  # fmt: skip
    raise ValueError(architecture)


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
    name = {"mixtral": "llama"}.get(architecture, architecture)
    writer = gguf.GGUFWriter(path, name)
    _write_header(writer, architecture, config)
    _write_tokenizer(writer, config.vocab_size)
    for parameter, tensor in model.named_parameters():
        _write(writer, architecture, config, parameter, tensor, gguf.GGMLQuantizationType[format], random)
    model.tie_weights()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _write_header(writer: Any, architecture: str, config: Any) -> None:
    heads = config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or config.n_inner)
    writer.add_head_count(heads)
    writer.add_vocab_size(config.vocab_size)
    if architecture == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    if architecture == "starcoder2":
        writer.add_layer_norm_eps(config.norm_epsilon)
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    head_size = config.head_dim
    parameters = config.rope_parameters
    if architecture == "gemma3":
        parameters = parameters["full_attention"]
        writer.add_sliding_window(config.sliding_window)
    if architecture == "phi3":
        writer.add_sliding_window(config.sliding_window or 0)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(parameters["rope_theta"])
    writer.add_rope_dimension_count(int(head_size * parameters.get("partial_rotary_factor", 1.0)))
    if architecture != "phi3":
        writer.add_key_length(head_size)
        writer.add_value_length(head_size)
    if parameters["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(parameters["rope_type"]))
        writer.add_rope_scaling_factor(parameters["factor"])
    if parameters["rope_type"] in ("yarn", "longrope"):
        writer.add_rope_scaling_orig_ctx_len(parameters["original_max_position_embeddings"])
    if parameters["rope_type"] == "longrope":
        original = parameters["original_max_position_embeddings"]
        extension = config.max_position_embeddings / original
        writer.add_rope_scaling_attn_factors(sqrt(1 + log(extension) / log(original)))
        for name in ("long", "short"):
            writer.add_tensor(f"rope_factors_{name}.weight", np.array(parameters[f"{name}_factor"], dtype=np.float32))
    if architecture in ("mixtral", "qwen3moe"):
        writer.add_expert_count(getattr(config, "num_local_experts", None) or config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if architecture == "qwen3moe":
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)


def _write_tokenizer(writer: Any, vocabulary: int) -> None:
    tokens = [*SPECIAL, *byte_alphabet(), "ab"]
    tokens += [f"<unused{i}>" for i in range(vocabulary - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens[:vocabulary])
    writer.add_token_types([3 if t.startswith("<") and len(t) > 1 else 1 for t in tokens[:vocabulary]])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _write(writer: Any, architecture: str, config: Any, parameter: str, tensor: Any, kind: Any, random: Any) -> None:
    """Fill a parameter with random weights that the file can hold, and add them to it."""
    *modules, leaf = parameter.removeprefix("model.").removeprefix("transformer.").split(".")
    layer = next((int(m) for m in modules if m.isdigit()), None)
    module = ".".join(modules[2:] if layer is not None else modules)
    experts = module.endswith("experts")
    names = {**_COMMON, **(_GEMMA if architecture == "gemma3" and layer is not None else {}), **_GPT2}
    stem = {"gate_up_proj": "", "down_proj": "ffn_down_exps"}[leaf] if experts else names[module]
    prefix = "" if layer is None else f"blk.{layer}."
    if tensor.ndim == 1:
        _write_vector(writer, architecture, config, f"{prefix}{stem}.{leaf}", tensor, random)
        return
    transposed = architecture == "gpt2" and layer is not None
    shape = tensor.shape[::-1] if transposed else tensor.shape
    # Where the norms before them leave 1, products have these spreads.
    embedding = _TIED_SPREAD if config.tie_word_embeddings else shape[-1] ** 0.5
    spread = {"output": _LOGIT_SPREAD, "ffn_gate_inp": _ROUTER_SPREAD, "token_embd": embedding}.get(stem, 1.0)
    values = (random.standard_normal(shape) * spread * shape[-1] ** -0.5).astype(np.float32)
    if stem == "position_embd":
        tensor.copy_(torch.from_numpy(values))
        writer.add_tensor("position_embd.weight", values)
        return
    if stem == "ffn_gate_inp":
        # As converters leave it.
        tensor.copy_(torch.from_numpy(values))
        writer.add_tensor(f"{prefix}{stem}.weight", values)
        return
    data = gguf.quantize(values, kind)
    held = torch.from_numpy(gguf.dequantize(data, kind).reshape(shape))
    tensor.copy_(held.T if transposed else held)
    if experts and not stem:
        half = shape[1] // 2
        for part, rows in (("gate", data[:, :half]), ("up", data[:, half:])):
            writer.add_tensor(f"{prefix}ffn_{part}_exps.weight", np.ascontiguousarray(rows), raw_dtype=kind)
        return
    writer.add_tensor(f"{prefix}{stem}.weight", _ordered(architecture, config, stem, data), raw_dtype=kind)


def _write_vector(writer: Any, architecture: str, config: Any, name: str, tensor: Any, random: Any) -> None:
    values = (random.standard_normal(len(tensor)) * 0.2).astype(np.float32)
    if name.endswith("norm.weight"):
        values += np.float32(1)
    if name == "output_norm.weight" and config.tie_word_embeddings:
        values *= np.float32(_LOGIT_SPREAD / _TIED_SPREAD)
    # Gemma's files hold one more than its parameters.
    tensor.copy_(torch.from_numpy(values - np.float32(1) if architecture == "gemma3" else values))
    stem = name.split(".")[-2]
    writer.add_tensor(name, _ordered(architecture, config, stem, values))


def _ordered(architecture: str, config: Any, stem: str, rows: NDArray[Any]) -> NDArray[Any]:
    """Rows in the order of the file: llama's converter puts the two halves of each head's rows side by side."""
    if architecture not in ("llama", "mixtral") or stem not in ("attn_q", "attn_k"):
        return rows
    heads = config.num_attention_heads if stem == "attn_q" else config.num_key_value_heads
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))
