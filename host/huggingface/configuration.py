"""The Hugging Face configuration of a described model: what transformers reads from the header, with what it leaves out."""

from typing import Any

from transformers import AutoConfig, MixtralConfig, PretrainedConfig

from tailrace.firmware.description import Experts

from ..gguf.architectures import HEAD
from ..gguf.describe import LOCAL_ROPE, ImportedModel
from . import internals


def configuration_of(imported: ImportedModel) -> PretrainedConfig:
    """Configuration for `AutoModelForCausalLM.from_config`.

    The variant of RoPE is left at its default; `set_frequencies` brings in the frequencies themselves.
    """
    model, description = imported.model, imported.description
    attention, feed_forward = description.layers[0].attention, description.layers[0].feed_forward
    config: Any = AutoConfig.from_pretrained(str(model.path.parent), gguf_file=model.path.name)
    if isinstance(feed_forward, Experts) and config.model_type == "llama":
        config = MixtralConfig(**{k: v for k, v in config.to_dict().items() if k not in ("model_type", "architectures")})
    config.vocab_size = description.vocabulary
    config.tie_word_embeddings = HEAD not in model.tensors
    if config.pad_token_id is not None and config.pad_token_id >= description.vocabulary:
        config.pad_token_id = None
    if config.model_type == "gpt2":
        config.n_positions = model.context_length
        config.n_inner = model.integer("feed_forward_length", 1, 1 << 24)
        return config
    config.head_dim = attention.head_size
    if isinstance(feed_forward, Experts):
        config.num_experts_per_tok, config.norm_topk_prob = feed_forward.used, feed_forward.normalise
        size = "intermediate_size" if config.model_type == "mixtral" else "moe_intermediate_size"
        setattr(config, size, feed_forward.expert.size)
        setattr(config, "num_local_experts" if config.model_type == "mixtral" else "num_experts", feed_forward.count)
    if attention.rotary_size != attention.head_size:
        config.rope_parameters["partial_rotary_factor"] = attention.rotary_size / attention.head_size
    windows = [layer.attention.window for layer in description.layers]
    if model.architecture.windowed or config.model_type == "mixtral":
        config.sliding_window = next((w for w in windows if w is not None), None)
    if config.model_type == "gemma3_text":
        if config.sliding_window is None:
            config.sliding_window = model.context_length
        local = [layer.attention.rope == LOCAL_ROPE for layer in description.layers]
        config.layer_types = ["sliding_attention" if is_local else "full_attention" for is_local in local]
        config.query_pre_attn_scalar = round(attention.scale**-2)
        config.final_logit_softcapping = description.logit_cap
    return config


def set_frequencies(host: Any, imported: ImportedModel) -> None:
    """Give a model the frequencies and the magnitude of RoPE, if they are not the plain ones, which it has already."""
    used = {layer.attention.rope for layer in imported.description.layers}
    for name, rope in imported.ropes.items():
        if name not in used or (not rope.divisors and rope.yarn is None and rope.magnitude == 1.0):
            continue
        layers = "sliding_attention" if name == LOCAL_ROPE else "full_attention"
        kinds = internals.rotations(host)
        internals.set_rotation(host, layers if layers in kinds else "", rope.frequencies(), rope.magnitude)
