"""All that we rely on in transformers beyond what it documents, in one place; `check` says what a version has changed."""

from inspect import signature
from typing import Any

import transformers
from transformers import DynamicCache, GenerationMixin
from transformers.generation import GenerationMode

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


def sampling_loop(model: Any) -> Any:
    """The method that samples or takes the best token, step by step."""
    return model._sample


def single_sequence(generation_config: Any) -> bool:
    """Whether each sequence goes on by one token at a time: no beams, no assistant, no contrast."""
    return generation_config.get_generation_mode() in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)


def check() -> None:
    """Check that transformers is as this package expects it.

    Raises
    ------
    ToolError
        If something that it relies on has another form, with its name.
    """
    forward = signature(transformers.LlamaForCausalLM.forward).parameters
    loop = signature(GenerationMixin._sample).parameters
    layer = DynamicCache(config=transformers.LlamaConfig(num_hidden_layers=1)).layers[0]
    expected = {
        "the models' argument for the cache": CACHE in forward,
        "the models' argument logits_to_keep": "logits_to_keep" in forward,
        "generate's argument custom_generate": "custom_generate" in signature(GenerationMixin.generate).parameters,
        "the arguments of the sampling loop": set(_LOOP_ARGUMENTS) | {"streamer"} <= set(loop),
        "the layers of DynamicCache": all(hasattr(layer, name) for name in ("keys", "values", "get_seq_length")),
    }
    changed = [what for what, holds in expected.items() if not holds]
    if changed:
        raise ToolError(
            f"transformers {transformers.__version__} has changed {', '.join(changed)}: install a version that this package was"
            " tested with, 5.23 or 5.24"
        )
