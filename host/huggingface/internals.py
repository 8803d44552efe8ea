"""All that we rely on in transformers beyond what it documents, in one place; `check` says what a version has changed."""

import inspect
import sys
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import nn
from transformers import DynamicCache, GenerationMixin, cache_utils
from transformers.generation import GenerationMode
from transformers.pytorch_utils import Conv1D

from tailrace.spec.errors import ToolError

#: What models and `generate` call the cache: `cache` from 5.24 on, and `past_key_values` before.
CACHE = "cache" if "cache" in signature(GenerationMixin.prepare_inputs_for_generation).parameters else "past_key_values"

#: What `generate` gives to a `custom_generate`, beside the arguments of the model.
_LOOP_ARGUMENTS = ("input_ids", "logits_processor", "stopping_criteria", "generation_config")


def cache_of(outputs: Any) -> DynamicCache:
    """The cache that a model returned."""
    return outputs[CACHE]


def with_cache(cache: DynamicCache) -> dict[str, Any]:
    """The arguments that make a model go on from a cache."""
    return {CACHE: cache, "use_cache": True}


def layers_of(cache: DynamicCache) -> list[Any]:
    """The layers of a cache that keep something."""
    return [layer for layer in cache.layers if not isinstance(layer, cache_utils.DummyLayer)]


def has_keys(layer: Any) -> bool:
    """Whether a layer of a cache keeps keys and values."""
    return isinstance(layer, cache_utils.CacheLayerMixin)


def has_state(layer: Any) -> bool:
    """Whether a layer of a cache keeps a state, or the last inputs of a convolution; it may keep keys and values, too."""
    return isinstance(layer, cache_utils.LinearAttentionCacheLayerMixin)


def state_of(layer: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The last inputs of a convolution, shape (sequences, channels, tokens), and the state behind them, as far as there are."""
    return layer.conv_states[0], layer.recurrent_states[0]


def length_of(cache: DynamicCache) -> int | None:
    """Tokens that a cache has seen; None if it can't tell, since none of its layers keeps keys."""
    layers = layers_of(cache)
    if layers and not any(map(has_keys, layers)):
        return 0 if all(state_of(layer)[0] is None for layer in layers) else None
    return int(cache.get_seq_length())


def check_cache_argument(model: Any) -> None:
    """Check that a model takes a cache by the name that others do.

    Raises
    ------
    ToolError
        If it has another name for it, as Mamba-2 in transformers 5.23.
    """
    if CACHE not in signature(model.forward).parameters:
        raise ToolError(
            f"transformers {transformers.__version__} gives {type(model).__name__} its cache by another name than other models:"
            " install 5.24"
        )


def sampling_loop(model: Any) -> Any:
    """The method that samples or takes the best token, step by step."""
    return model._sample


def generation_mode(generation_config: Any, assistant: Any = None) -> str:
    """What `generate` was asked to do: ``greedy_search``, ``sample``, ``beam_search``, ``assisted_generation`` and so on."""
    return str(generation_config.get_generation_mode(assistant).value)


def is_single_sequence(mode: str) -> bool:
    """Whether each sequence goes on by one token at a time: no beams, no assistant, no contrast."""
    return mode in (GenerationMode.GREEDY_SEARCH.value, GenerationMode.SAMPLE.value)


def padding(generation_config: Any) -> torch.Tensor | None:
    """The token that follows the end of a sequence, as `generate` has settled it."""
    return generation_config._pad_token_tensor


@dataclass(frozen=True)
class Withheld:
    """Arguments of `generate` that it does not hand on to a `custom_generate`."""

    streamer: Any = None
    assistant: Any = None


def withheld() -> Withheld:
    """What the innermost `generate` that is being executed has withheld.

    transformers calls a `custom_generate` without the streamer and without the assistant that it was given, so text would
    never arrive, and a request for assisted generation would be forgotten.
    """
    code = inspect.unwrap(GenerationMixin.generate).__code__
    frame = sys._getframe()
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return Withheld()
    return Withheld(frame.f_locals.get("streamer"), frame.f_locals.get("assistant_model"))


@dataclass(frozen=True)
class Rotation:
    """RoPE as a model has it.

    Attributes
    ----------
    kind : str
        ``default``, ``linear``, ``yarn``, ``llama3``, ``longrope``, ``dynamic``.
    base : float
    frequencies : ndarray of float64, shape (pairs,)
        Radians from one position to the next.
    magnitude : float
        What cosines and sines are multiplied with.
    original_context : int
        Positions up to which `frequencies` hold, if the kind is one that changes them.
    """

    kind: str
    base: float
    frequencies: NDArray[np.float64]
    magnitude: float
    original_context: int


def rotations(model: Any) -> dict[str, Rotation]:
    """RoPE of a model, by the type of layers; ``""`` for all types."""
    rotary, config = model.model.rotary_emb, model.config
    found = {}
    for name, buffer in rotary.named_buffers():
        if not name.endswith("inv_freq") or "original" in name:
            continue
        kind = name.removesuffix("inv_freq").removesuffix("_")
        parameters = config.rope_parameters[kind] if kind else config.rope_parameters
        rope_type = parameters["rope_type"]
        if rope_type == "longrope":
            # Those of short sequences, whatever the model has seen last.
            buffer = getattr(rotary, name.replace("inv_freq", "original_inv_freq"))
        found[kind] = Rotation(
            rope_type,
            float(parameters["rope_theta"]),
            buffer.detach().to("cpu", torch.float64).numpy(),
            float(getattr(rotary, name.replace("inv_freq", "attention_scaling"))),
            int(parameters.get("original_max_position_embeddings") or config.max_position_embeddings),
        )
    return found


def set_rotation(model: Any, kind: str, frequencies: NDArray[np.float64], magnitude: float) -> None:
    """Give a model other frequencies and another magnitude, for one type of layers, or for all if that is ``""``."""
    rotary, prefix = model.model.rotary_emb, f"{kind}_" if kind else ""
    for buffer in ("inv_freq", "original_inv_freq"):
        getattr(rotary, f"{prefix}{buffer}").copy_(torch.from_numpy(frequencies))
    setattr(rotary, f"{prefix}attention_scaling", magnitude)


def make_buffers(model: Any) -> None:
    """Give memory and values to the buffers of a model that was made on the device ``meta``.

    Raises
    ------
    ToolError
        If there are others than are known.
    """
    base = getattr(model, "model", None)
    if base is not None and getattr(base, "rotary_emb", None) is not None:
        base.rotary_emb = type(base.rotary_emb)(config=model.config)
    for module in model.modules():
        if hasattr(module, "scalar_embed_scale"):
            module.embed_scale = torch.tensor(module.scalar_embed_scale)
        if hasattr(module, "mup_vector"):
            # Falcon-H1's multipliers, which are all 1 where the converter has multiplied the weights with them.
            module.mup_vector = torch.ones_like(module.mup_vector, device="cpu")
    left = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if left:
        raise ToolError(
            f"transformers {transformers.__version__} has given {type(model).__name__} the buffer {left[0]}, which is not known"
            " here: install a version that this package was tested with, 5.23 or 5.24"
        )


def attention_scale(attention: nn.Module) -> float:
    """What an attention multiplies its scores with."""
    return float(attention.scaling)  # type: ignore[arg-type]


def is_transposed(module: nn.Module) -> bool:
    """Whether a module holds its matrix with the columns first, as GPT-2's do."""
    return isinstance(module, Conv1D)


def check() -> None:
    """Check that transformers is as this package expects it.

    Raises
    ------
    ToolError
        If something that it relies on has another form, with its name.
    """
    changed = [what for what, holds in _expectations().items() if not holds]
    if changed:
        raise ToolError(
            f"transformers {transformers.__version__} has changed {', '.join(changed)}: install a version that this package was"
            " tested with, 5.23 or 5.24"
        )


def _expectations() -> dict[str, bool]:
    forward = signature(transformers.LlamaForCausalLM.forward).parameters
    generate = inspect.unwrap(GenerationMixin.generate).__code__.co_varnames
    loop = set(signature(GenerationMixin._sample).parameters)
    config = transformers.LlamaConfig(
        num_hidden_layers=1, hidden_size=8, num_attention_heads=1, intermediate_size=8, vocab_size=8
    )
    with torch.device("meta"):
        model: Any = transformers.LlamaForCausalLM(config)
    layer = DynamicCache(config=config).layers[0]
    rotary = model.model.rotary_emb
    return {
        "the models' argument for the cache": CACHE in forward,
        "the models' argument logits_to_keep": "logits_to_keep" in forward,
        "the arguments of generate": {"custom_generate", "streamer", "assistant_model"} <= set(generate),
        "the arguments of the sampling loop": {*_LOOP_ARGUMENTS, "streamer"} <= loop,
        "the settled padding token": "_pad_token_tensor" in inspect.getsource(GenerationMixin._prepare_special_tokens),
        "the layers of DynamicCache": all(hasattr(layer, name) for name in ("keys", "values", "get_seq_length")),
        "the layers of linear attention": _keeps_states(),
        "RoPE's buffers": all(hasattr(rotary, name) for name in ("inv_freq", "original_inv_freq", "attention_scaling")),
        "RoPE's configuration": {"rope_type", "rope_theta"} <= set(config.rope_parameters),
        "the scale of attention": hasattr(model.model.layers[0].self_attn, "scaling"),
    }


def _keeps_states() -> bool:
    """Whether caches tell layers with states from others, and how."""
    if not all(hasattr(cache_utils, name) for name in ("DummyLayer", "LinearAttentionCacheLayerMixin", "LinearAttentionLayer")):
        return False
    layer = cache_utils.LinearAttentionLayer()
    return layer.conv_states == {0: None} and layer.recurrent_states == {0: None}
