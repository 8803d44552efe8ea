"""From config.json to the header of a GGUF file.

Source: transformers' configuration classes for names and defaults, llama.cpp's converter for GGUF's side of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailrace.spec.errors import ModelError

from ..architectures import ARCHITECTURES
from ..printable import printable
from ..writer import NewTensor
from .families import FAMILIES, Family
from .json_file import Values, read_json
from .packed import Packing, read_packing
from .rope import FULL, SLIDING, local_base, rope_terms

CONFIG = "config.json"
_MAX_LAYERS, _MAX_SIZE, _MAX_CONTEXT, _MAX_HEADS = 1 << 16, 1 << 24, (1 << 31) - 1, 1 << 16
_MAX_NUMBER = 1e6
#: Values that do not change what the model computes, whatever they are.
_HARMLESS = frozenset(
    (
        # How it came about, and how transformers runs it.
        "architectures", "model_type", "_name_or_path", "transformers_version", "torch_dtype", "dtype", "auto_map", "use_cache",
        "_attn_implementation", "attn_implementation", "output_attentions", "output_hidden_states", "return_dict",
        "initializer_range", "pretraining_tp", "attention_dropout", "hidden_dropout", "embd_pdrop", "resid_pdrop",
        "residual_dropout", "embedding_dropout", "use_bfloat16", "torchscript", "chunk_size_feed_forward",
        "cache_implementation",
        "unsloth_fixed", "unsloth_version", "router_aux_loss_coef", "output_router_logits", "router_jitter_noise",
        "_sliding_window_pattern",
        # Its tokens, which the tokenizer's files say, and how to choose among them.
        "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "decoder_start_token_id",
        "bos_token", "eos_token", "pad_token", "temperature", "top_k", "top_p", "do_sample", "max_length", "min_length",
        "num_beams", "num_beam_groups", "repetition_penalty", "length_penalty", "diversity_penalty", "typical_p",
        "num_return_sequences", "exponential_decay_length_penalty", "id2label", "label2id", "task_specific_params",
        "problem_type", "is_decoder", "is_encoder_decoder", "tie_encoder_decoder",
        # What its tensors say.
        "attention_bias", "attention_out_bias", "mlp_bias", "use_qkv_bias", "qkv_bias",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """A configuration, in GGUF's terms.

    Attributes
    ----------
    family : Family
    values : dict
        Of the header, with the architecture in their keys.
    tensors : list of NewTensor
        What GGUF has in tensors of it.
    layers : int
    tied : bool
        Whether the head is the embedding.
    windowed : bool
        Whether layers have windows.
    packing : Packing or None
        How matrices are packed, if they are no plain numbers.
    exact_yarn : bool
        See `tailrace.gguf.architectures.Architecture`.
    """

    family: Family
    values: dict[str, Any]
    tensors: list[NewTensor]
    layers: int
    tied: bool
    windowed: bool
    exact_yarn: bool
    packing: Packing | None


def read_configuration(folder: Path) -> Configuration:
    """Read the configuration of a checkpoint.

    Raises
    ------
    ModelError
        If its family is not known, or a value is missing, is not what it should be, or means nothing here.
    """
    path = folder / CONFIG
    given = read_json(path)
    whole = Values(path, given)
    kind = whole.text("model_type")
    family = FAMILIES.get(kind)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise ModelError(
            f"{path} can't be used: model_type is '{printable(kind)}', and known in folders are {known}. Convert the model to"
            " GGUF: `tailrace models` lists what runs from there"
        )
    text = whole.any(family.within, {}) if family.within else given
    config = Values(
        path, {**family.defaults, **text} if isinstance(text, dict) else text, f"{family.within}." * bool(family.within)
    )
    _check_fixed(family, config)
    layers = config.integer("num_hidden_layers", 1, _MAX_LAYERS)
    hidden, heads = config.integer("hidden_size", 1, _MAX_SIZE), config.integer("num_attention_heads", 1, _MAX_HEADS)
    head_size = config.integer("head_dim", 1, _MAX_SIZE, max(hidden // heads, 1))
    context = config.integer("max_position_embeddings", 1, _MAX_CONTEXT)
    rope, windows = rope_terms(config, head_size, context), _windows(family, config, layers)
    values: dict[str, Any] = {
        "block_count": layers,
        "context_length": context,
        "embedding_length": hidden,
        "feed_forward_length": config.integer("intermediate_size", 1, _MAX_SIZE),
        "vocab_size": config.integer("vocab_size", 1, _MAX_SIZE),
        "attention.head_count": heads,
        "attention.head_count_kv": config.integer("num_key_value_heads", 1, _MAX_HEADS, heads),
        "attention.key_length": head_size,
        "attention.value_length": head_size,
        "attention.layer_norm_rms_epsilon": config.real("rms_norm_eps", 1e-15, 1.0, 1e-6),
        **rope.values,
        **windows,
        **{key: config.integer(_present(config, names), 1, _MAX_SIZE) for key, names in family.sizes.items()},
        **{key: config.real(name, 0.0, _MAX_NUMBER) for name, key in family.numbers.items() if name in config},
    }
    if "query_pre_attn_scalar" in config:
        values["attention.scale"] = config.real("query_pre_attn_scalar", 1.0, _MAX_NUMBER) ** -0.5
    packing = read_packing(config)
    tied = config.flag("tie_word_embeddings", False)
    for name, value in config.unasked():
        if name not in _HARMLESS and value not in (0, False, "", [], {}):
            raise config.unexpected(name, "nothing, as in the other models of this family that are known here,")
    return Configuration(
        family,
        {f"{family.architecture}.{key}": value for key, value in values.items()},
        rope.tensors,
        layers,
        tied,
        bool(windows.get("attention.sliding_window")),
        rope.exact_yarn,
        packing,
    )


def _present(config: Values, names: tuple[str, ...]) -> str:
    """The name that is there, or else the first one."""
    return next((name for name in names if name in config), names[0])


def _check_fixed(family: Family, config: Values) -> None:
    """Check that what the description can't say is as in all models of the family."""
    name = "hidden_activation" if "hidden_activation" in config else "hidden_act"
    if config.text(name, family.activations[0]) not in family.activations:
        raise config.unexpected(name, f"'{family.activations[0]}'")
    for name, value in family.fixed.items():
        if config.any(name, value) != value:
            raise config.unexpected(name, str(value).lower())


def _windows(family: Family, config: Values, layers: int) -> dict[str, Any]:
    """Which layers have a window, and its size."""
    window = config.integer("sliding_window", 0, _MAX_CONTEXT, 0)
    if not config.flag("use_sliding_window", True):
        window = 0
    first = config.integer("max_window_layers", 0, _MAX_LAYERS, 0)
    every = config.integer("sliding_window_pattern", 0, _MAX_LAYERS, family.window_every)
    if "layer_types" in config:
        kinds = config.texts("layer_types", layers)
        if not {FULL, SLIDING}.issuperset(kinds):
            raise config.unexpected("layer_types", f"an array of '{FULL}' and '{SLIDING}'")
        pattern = [kind == SLIDING for kind in kinds]
    else:
        pattern = [n >= first and not (every and n % every == every - 1) for n in range(layers)]
    windowed = window > 0 and any(pattern)
    values: dict[str, Any] = {}
    if windowed:
        values |= {"attention.sliding_window": window, "attention.sliding_window_pattern": pattern}
    elif ARCHITECTURES[family.architecture].windowed:
        values["attention.sliding_window"] = 0
    if family.local_rope is not None and (base := local_base(config, family.local_rope)) != family.local_rope:
        values["rope.freq_base_swa"] = base
    return values
