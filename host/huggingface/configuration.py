"""The Hugging Face configuration of a described model."""

from typing import Any

from transformers import (
    AutoConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from tailrace.firmware.description import Experts
from tailrace.spec.errors import ModelError

from ..gguf.architectures import HEAD
from ..gguf.describe import LOCAL_ROPE, ROPE, ImportedModel
from ..gguf.file import Model
from ..gguf.rope import Rope
from . import internals
from .hybrid_configuration import CLASSES as HYBRIDS
from .hybrid_configuration import hybrid_values

_CLASSES: dict[str, Any] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "qwen3moe": Qwen3MoeConfig,
    "gemma3": Gemma3TextConfig,
    "phi3": Phi3Config,
    "gpt2": GPT2Config,
}
#: Architectures that PyTorch computes here, those with states apart.
COMPUTED = tuple(_CLASSES)
_TOKENS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}


def configuration_of(imported: ImportedModel) -> PretrainedConfig:
    """Configuration for `AutoModelForCausalLM.from_config`.

    The variant of RoPE is left at its default; `set_frequencies` brings in the frequencies themselves.

    Raises
    ------
    ModelError
        If there is none for the architecture.
    """
    model, description = imported.model, imported.description
    if description.architecture not in _CLASSES | HYBRIDS:
        raise ModelError(
            f"{model.path} can't be computed by PyTorch here, which is for the architectures {', '.join(_CLASSES | HYBRIDS)},"
            f" and not for {description.architecture}. The device computes all of it, prompts too: leave out --prefill torch"
            " and --path operations"
        )
    if description.is_recurrent:
        return HYBRIDS[description.architecture](**recurrent_values_of(imported))
    attention, feed_forward = description.attentions[0], description.layers[0].feed_forward
    assert feed_forward is not None
    common = _of_all(imported)
    if description.architecture == "gpt2":
        assert not isinstance(feed_forward, Experts)
        return GPT2Config(
            **common,
            n_positions=model.context_length,
            n_embd=description.hidden,
            n_layer=len(description.layers),
            n_head=attention.heads,
            n_inner=feed_forward.size,
            layer_norm_epsilon=description.norm.epsilon,
        )
    common |= _of_attention(imported)
    kind = _CLASSES[description.architecture]
    if isinstance(feed_forward, Experts):
        kind = MixtralConfig if kind is LlamaConfig else kind
        size, count = (
            ("intermediate_size", "num_local_experts") if kind is MixtralConfig else ("moe_intermediate_size", "num_experts")
        )
        common |= {size: feed_forward.expert.size, count: feed_forward.count, "num_experts_per_tok": feed_forward.used}
        common["norm_topk_prob"] = feed_forward.normalise
    else:
        common["intermediate_size"] = feed_forward.size
    windows = [a.window for a in description.attentions]
    if model.architecture.windowed or kind is MixtralConfig:
        common["sliding_window"] = next((w for w in windows if w is not None), None)
    if description.architecture == "gemma3":
        local = [a.rope == LOCAL_ROPE for a in description.attentions]
        common |= {
            "sliding_window": common["sliding_window"] or model.context_length,
            "layer_types": ["sliding_attention" if is_local else "full_attention" for is_local in local],
            "query_pre_attn_scalar": round(attention.scale**-2),
            "final_logit_softcapping": description.logit_cap,
        }
    return kind(**common)


def recurrent_values_of(imported: ImportedModel) -> dict[str, Any]:
    """What a configuration says of a model with states, as far as it matters for what is computed."""
    return hybrid_values(imported, _of_all(imported) | (_of_attention(imported) if imported.description.attentions else {}))


def _of_all(imported: ImportedModel) -> dict[str, Any]:
    return {
        "vocab_size": imported.description.vocabulary,
        "tie_word_embeddings": HEAD not in imported.model.tensors,
        **_tokens(imported),
    }


def _of_attention(imported: ImportedModel) -> dict[str, Any]:
    description, attention = imported.description, imported.description.attentions[0]
    return {
        "max_position_embeddings": imported.model.context_length,
        "hidden_size": description.hidden,
        "num_hidden_layers": len(description.layers),
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_size,
        "rms_norm_eps": description.norm.epsilon,
        "rope_parameters": _rope_parameters(imported),
    }


def configuration_from_header(model: Model) -> PretrainedConfig:
    """Configuration of a model without a description, as transformers reads it from the header.

    Raises
    ------
    ModelError
        If transformers does not know such models, or the model is in parts, which it does not read.
    """
    if model.parts > 1:
        raise ModelError(
            f"{model.path} is in {model.parts} parts, which transformers does not read: join them with llama.cpp's"
            " `llama-gguf-split --merge`"
        )
    try:
        config = AutoConfig.from_pretrained(str(model.path.parent), gguf_file=model.path.name)
    except Exception as error:
        raise ModelError(f"transformers can't load {model.path}: {error}") from error
    config.tie_word_embeddings = HEAD not in model.tensors
    return config


def _tokens(imported: ImportedModel) -> dict[str, int | None]:
    header, vocabulary = imported.model.header, imported.description.vocabulary
    found = {name: header.integer(f"tokenizer.ggml.{key}", -1, (1 << 31) - 1, -1) for name, key in _TOKENS.items()}
    return {name: token if 0 <= token < vocabulary else None for name, token in found.items()}


def _rope_parameters(imported: ImportedModel) -> dict[str, Any]:
    attention = imported.description.attentions[0]

    def plain(name: str) -> dict[str, Any]:
        if name not in imported.ropes:
            return {"rope_type": "default", "rope_theta": 10_000.0}
        part = attention.rotary_size / attention.head_size
        parameters = {"rope_type": "default", "rope_theta": imported.ropes[name].base}
        # Some classes have a part of their own if none is named.
        is_whole = part == 1 and not imported.description.is_recurrent
        return parameters if is_whole else {**parameters, "partial_rotary_factor": part}

    if LOCAL_ROPE not in imported.ropes and imported.description.architecture != "gemma3":
        return plain(ROPE)
    return {"full_attention": plain(ROPE), "sliding_attention": plain(LOCAL_ROPE if LOCAL_ROPE in imported.ropes else ROPE)}


def write_rotation(config: Any, imported: ImportedModel, longer: ImportedModel) -> None:
    """Write RoPE's variant into a configuration, for those who have nothing else.

    Parameters
    ----------
    config : PretrainedConfig
        As `configuration_of` has made it.
    imported : ImportedModel
        For the context that the model had before it was extended.
    longer : ImportedModel
        The same model, for all of its context.
    """
    if not imported.ropes:
        return
    parameters, variant = config.rope_parameters, _variant(imported.ropes[ROPE], longer.ropes[ROPE], imported.context)
    config.rope_parameters = (
        {**parameters, "full_attention": {**parameters["full_attention"], **variant}}
        if "full_attention" in parameters
        else {**parameters, **variant}
    )


def _variant(rope: Rope, longer: Rope, context: int) -> dict[str, Any]:
    if rope.yarn is not None:
        return {
            "rope_type": "yarn",
            "factor": rope.yarn.factor,
            "original_max_position_embeddings": rope.yarn.original_context,
            "beta_fast": rope.yarn.beta_fast,
            "beta_slow": rope.yarn.beta_slow,
            "attention_factor": rope.magnitude,
        }
    if len(set(rope.divisors)) == 1 and rope.magnitude == 1.0:
        return {"rope_type": "linear", "factor": rope.divisors[0]}
    if rope.divisors or rope.magnitude != 1.0:
        # What transformers calls LongRoPE is any list of divisors.
        ones = (1.0,) * (rope.size // 2)
        return {
            "rope_type": "longrope",
            "short_factor": list(rope.divisors or ones),
            "long_factor": list(longer.divisors or ones),
            "original_max_position_embeddings": context,
            "attention_factor": rope.magnitude,
        }
    return {}


def set_frequencies(host: Any, imported: ImportedModel) -> None:
    """Give a model the frequencies and the magnitude of RoPE, if they are not the plain ones, which it has already."""
    used = {attention.rope for attention in imported.description.attentions}
    for name, rope in imported.ropes.items():
        if name not in used or (not rope.divisors and rope.yarn is None and rope.magnitude == 1.0):
            continue
        layers = "sliding_attention" if name == LOCAL_ROPE else "full_attention"
        kinds = internals.rotations(host)
        internals.set_rotation(host, layers if layers in kinds else "", rope.frequencies(), rope.magnitude)
