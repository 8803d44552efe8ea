"""The model that vLLM runs: whether its prompts can be handed over, and what is said of it in each file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tailrace.spec import handover as contract
from tailrace.spec.errors import ModelError

from .angles import angles


@dataclass(frozen=True)
class HandedModel:
    """What is said of a model.

    Attributes
    ----------
    name : str
        As vLLM serves it.
    layers, kv_heads, head_size : int
    metadata : dict of str to str
        Of each file.
    frequencies : tensor of float64 or None
        See `tailrace.spec.handover`.
    """

    name: str
    layers: int
    kv_heads: int
    head_size: int
    metadata: dict[str, str]
    frequencies: torch.Tensor | None


def handed_model(vllm_config: Any, kv_cache_config: Any, version: str) -> HandedModel:
    """Describe the model of a vLLM configuration.

    Raises
    ------
    ModelError
        If its prompts can't be handed over, with the first reason.
    """
    config = vllm_config.model_config
    name = config.served_model_name if isinstance(config.served_model_name, str) else config.model
    for reason in refusals(vllm_config, kv_cache_config):
        raise _refused(name, reason)
    text = config.hf_text_config
    spec = kv_cache_config.kv_cache_groups[0].kv_cache_spec
    try:
        found = angles(text, spec.head_size)
    except ModelError as error:
        raise _refused(name, str(error)) from None
    frequencies, magnitude = (None, 1.0) if found is None else found
    metadata = {
        "format": contract.FORMAT,
        "version": str(contract.VERSION),
        "writer": f"vllm {version}",
        "model": name,
        "architecture": str(text.model_type),
        "vocabulary": str(text.vocab_size),
        "rope_magnitude": f"{magnitude:.6g}",
    }
    return HandedModel(name, text.num_hidden_layers, spec.num_kv_heads, spec.head_size, metadata, frequencies)


def refusals(vllm_config: Any, kv_cache_config: Any) -> Iterator[str]:
    """Tell why the prompts of a model can't be handed over."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    if model.use_mla:
        yield "it has latent attention (MLA), and no keys and values to hand over"
    for field in (
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "decode_context_parallel_size",
        "prefill_context_parallel_size",
    ):
        if getattr(parallel, field, 1) > 1:
            yield f"it is spread over several workers ({field}), each with a part of the keys and values"
    if getattr(vllm_config, "speculative_config", None) is not None:
        yield "it drafts (speculative_config), which has caches of its own"
    groups = kv_cache_config.kv_cache_groups
    if len(groups) != 1:
        kinds = ", ".join(type(group.kv_cache_spec).__name__ for group in groups) or "none"
        yield f"its layers have different caches ({kinds}), such as sliding windows or states"
        return
    spec = groups[0].kv_cache_spec
    if type(spec).__name__ != "FullAttentionSpec":
        yield f"its cache is of the kind {type(spec).__name__}, and only full attention is handed over"
    elif spec.sliding_window is not None or spec.attention_chunk_size is not None:
        yield "it has sliding windows"


def layer_numbers(names: Sequence[str], count: int, model: str) -> dict[str, int]:
    """The number of each layer of vLLM's.

    Raises
    ------
    ModelError
        If there is not one cache for each layer.
    """
    numbers = {name: [int(part) for part in name.split(".") if part.isdigit()] for name in names}
    if sorted(numbers.values()) != [[n] for n in range(count)]:
        raise _refused(model, f"it has {count} layers, and caches for {', '.join(names[:3])}, ... ({len(names)} in all)")
    return {name: found[0] for name, found in numbers.items()}


def _refused(name: str, reason: str) -> ModelError:
    return ModelError(f"prompts of {name} can't be handed over: {reason}. Serve it without this connector, or another model")
