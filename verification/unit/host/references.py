"""What a decoder is compared with: Hugging Face models that see the keys and values as the device has stored them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin

from tailrace.device.decoder import Decoder
from tailrace.firmware.description import Attention
from tailrace.firmware.placement import CachePlace
from tailrace.huggingface.internals import with_cache
from tailrace.image.weight_stream import blocks_of_stream
from tailrace.spec.formats import BLOCK, LANE_BYTES, Q8_0
from tailrace.spec.kv_cache import quantise_keys, quantise_values

from .latent_reference import latent_logits

Floats = NDArray[np.float32]

#: Types of models whose routers score each expert by itself.
_SIGMOID_ROUTERS = ("glm4_moe", "minimax_m2", "lfm2_moe", "deepseek_v3", "nemotron_h", "dots1")
#: Types of models whose weights of experts do not add up to 1, though their routers do not say so.
_NOT_NORMALISED = ("deepseek_v2",)
#: Types whose routers say what each expert's input is multiplied with, 0 if it has not been chosen.
_INPUT_ROUTERS = ("llama4_text",)
#: Types whose routers say probabilities in place of logits, and have a scale for each expert.
_SCALED_EXPERTS = ("gemma4_text",)
#: Steps by which what is rounded may differ: where that decides between two codes, device and reference may choose another one.
_TIE = 0.1


def divergence(reference: NDArray[Any], logits: NDArray[Any]) -> NDArray[np.float64]:
    """Kullback-Leibler divergence of each position."""

    def log_probabilities(x: NDArray[Any]) -> NDArray[np.float64]:
        x = x.astype(np.float64) - x.max(axis=-1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))

    p, q = log_probabilities(reference), log_probabilities(logits)
    return (np.exp(p) * (p - q)).sum(axis=-1)


def read_cache(decoder: Decoder, layer: int, sequence: int = 0) -> tuple[Floats, Floats]:
    """Keys and values of a layer as the device has them, shape (kv_heads, capacity, head_size or value_size)."""
    place = decoder.image.placement.caches[sequence][layer]
    assert isinstance(place, CachePlace)
    attention, lanes = decoder.imported.description.whole.layers[layer].attention, decoder.image.build.lanes
    size, capacity, read = attention.value_size, place.capacity, decoder.device.transport.read
    blocks, groups = attention.head_blocks, -(-size // lanes)
    keys, values = [], []
    for head in range(attention.kv_heads):
        raw = read(place.keys + head * place.key_stride, Q8_0.matrix_bytes(capacity, blocks, lanes))
        table = blocks_of_stream(Q8_0, np.frombuffer(raw, np.uint8), capacity, blocks, lanes).reshape(capacity, blocks, 34)
        scales = np.ascontiguousarray(table[..., :2]).view("<f2").astype(np.float32)
        keys.append((scales * table[..., 2:].view(np.int8)).reshape(capacity, -1)[:, : attention.head_size])
        raw = read(place.values + head * place.value_stride, groups * place.row_stride)
        beats = np.frombuffer(raw, np.int8).reshape(groups, capacity // LANE_BYTES, lanes, LANE_BYTES)
        codes = beats.swapaxes(1, 2).reshape(groups * lanes, capacity)[:size].T
        scale = np.frombuffer(read(place.scales + head * place.scale_stride, 4 * capacity), "<f4")
        values.append(scale[:, None] * codes)
    return np.array(keys), np.array(values, dtype=np.float32)


def decode(decoder: Decoder, tokens: Sequence[int]) -> tuple[Floats, list[tuple[Floats, Floats]]]:
    """Logits of every position of a text, and the keys and values of each KV cache, all positions, as they were written."""
    logits, steps = [], []
    description = decoder.imported.description
    layers = [n for n in description.owners if isinstance(description.mixers[n][1], Attention)]
    for token in tokens:
        position = decoder.positions[0]
        logits.append(decoder.step(int(token)))
        rows = [position if a.window is None else position % a.window for a in description.attentions]
        caches = [read_cache(decoder, n) for n in layers]
        steps.append([(keys[:, row], values[:, row]) for (keys, values), row in zip(caches, rows, strict=True)])
    held = [tuple(np.stack([step[n][i] for step in steps], axis=1) for i in (0, 1)) for n in range(len(layers))]
    return np.array(logits), held


def reference_logits(model: Any, tokens: Sequence[int], held: Sequence[tuple[Floats, Floats]] | None = None) -> Floats:
    """A Hugging Face model's logits of every position; with `held`, attention sees these keys and values in place of its own.

    They must be a quantisation to 8 bits of its own ones: none is further away than half a step of its code, and a little.
    """
    return _logits(model, tokens, instead(held))


def instead(held: Sequence[tuple[Floats, Floats]] | None) -> Callable[[int, Floats, Floats], tuple[Floats, Floats]]:
    """What puts these keys and values of each layer in place of its own, for `changed_cache`; None: its own."""
    if held is None:
        return lambda layer, keys, values: (keys, values)

    def stored(layer: int, keys: Floats, values: Floats) -> tuple[Floats, Floats]:
        for own, given, step in zip((keys, values), held[layer], steps(keys, values), strict=True):
            apart = (np.abs(own - given) / np.maximum(step, 1e-30)).max()
            assert apart <= 0.5 + _TIE, f"layer {layer}: a code is {apart:.2f} steps from the reference's own key or value"
        return held[layer]

    return stored


def quantised_logits(model: Any, tokens: Sequence[int]) -> tuple[Floats, list[tuple[Floats, Floats]]]:
    """A Hugging Face model's logits if it quantises its own keys and values, and these, as `decode` has the device's."""
    held: list[tuple[Floats, Floats]] = []

    def quantise(layer: int, keys: Floats, values: Floats) -> tuple[Floats, Floats]:
        held.append((dequantised_keys(keys), dequantised_values(values)))
        return held[-1]

    return _logits(model, tokens, quantise), held


@contextmanager
def chosen_experts(model: Any, instead: Sequence[NDArray[np.int64]] = ()) -> Iterator[list[NDArray[np.int64]]]:
    """What each router chooses in the run within, in order; shape (positions, used), ascending. Empty if there are none.

    `instead` is what they then use, in the same form, each expert with the weight that its router gives it.
    """
    chosen: list[NDArray[np.int64]] = []

    def note(module: Any, given: Any, result: Any) -> Any:
        if model.config.model_type in _INPUT_ROUTERS:
            scores, logits = result
            own = scores.nonzero()[:, 1].reshape(len(scores), -1)
        else:
            logits, _, own = result
        chosen.append(np.sort(own.numpy(), axis=-1))
        if not instead:
            return None
        used = torch.from_numpy(instead[len(chosen) - 1])
        if model.config.model_type in _INPUT_ROUTERS:
            return torch.zeros_like(logits).scatter(1, used, torch.sigmoid(logits).gather(1, used)), logits
        weights = _scores(model, logits).gather(1, used)
        if model.config.model_type not in _NOT_NORMALISED and getattr(module, "norm_topk_prob", True):
            weights = weights / weights.sum(dim=-1, keepdim=True)
        if model.config.model_type in _SCALED_EXPERTS:
            weights = weights * module.per_expert_scale[used]
        return logits, weights * getattr(module, "routed_scaling_factor", 1.0), used

    hooks = [
        module.register_forward_hook(note)
        for name, module in model.named_modules()
        if name.endswith(("mlp.gate", "router", "feed_forward.gate", "mixer.gate"))
    ]
    yield chosen
    for hook in hooks:
        hook.remove()


def _scores(model: Any, logits: Any) -> Any:
    """The scores of experts, from what a router says first."""
    kind = model.config.model_type
    if kind in _SCALED_EXPERTS:
        return logits
    return torch.sigmoid(logits) if kind in _SIGMOID_ROUTERS else torch.softmax(logits, dim=-1)


def dequantised_keys(keys: Floats) -> Floats:
    """What 8 bits leave of keys, shape (..., head_size)."""
    scales, codes = quantise_keys(keys)
    return (scales.astype(np.float32)[..., None] * codes).reshape(*keys.shape[:-1], -1)[..., : keys.shape[-1]]


def dequantised_values(values: Floats) -> Floats:
    """What 8 bits leave of values, shape (..., head_size)."""
    scales, codes = quantise_values(values)
    return scales[..., None] * codes


def steps(keys: Floats, values: Floats) -> tuple[Floats, Floats]:
    """For each key and value, how far apart its codes are."""
    scales = quantise_keys(keys)[0].astype(np.float32)
    return np.repeat(scales, BLOCK, axis=-1)[..., : keys.shape[-1]], quantise_values(values)[0][..., None]


def _neighbours_apart(model: Any) -> NDArray[np.int64] | None:
    """Which element of a key in transformers each element of a key on the device is, if transformers rotates neighbours."""
    config = model.config
    if config.model_type not in ("ernie4_5", "ernie4_5_moe", "cohere", "cohere2", "glm4", "llama4_text"):
        return None
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rotated = int(size * config.rope_parameters.get("partial_rotary_factor", 1.0))
    return np.concatenate([np.arange(rotated).reshape(-1, 2).T.reshape(-1), np.arange(rotated, size)])


def _logits(model: Any, tokens: Sequence[int], change: Callable[[int, Floats, Floats], tuple[Floats, Floats]]) -> Floats:
    """Logits with each layer's keys and values, shape (kv_heads, positions, head_size), changed on their way into the cache."""
    cache = changed_cache(model, change)
    if hasattr(model.config, "kv_lora_rank"):
        return latent_logits(model, tokens, cache, change)
    with torch.no_grad():
        return model(torch.tensor([list(map(int, tokens))]), **with_cache(cache)).logits[0].numpy()


def changed_cache(model: Any, change: Callable[[int, Floats, Floats], tuple[Floats, Floats]]) -> DynamicCache:
    """An empty cache that each layer's keys and values are changed on their way into; latents are not."""
    cache = DynamicCache(config=model.config)
    order = _neighbours_apart(model)
    if hasattr(model.config, "kv_lora_rank"):
        return cache
    for n, layer in enumerate(layer for layer in cache.layers if isinstance(layer, CacheLayerMixin)):

        def update(keys: Any, values: Any, *args: Any, original: Any = layer.update, n: int = n, **more: Any) -> Any:
            found, kept = change(n, keys[0].numpy() if order is None else keys[0].numpy()[..., order], values[0].numpy())
            changed = found if order is None else found[..., np.argsort(order)], kept
            return original(*(torch.from_numpy(np.ascontiguousarray(part))[None] for part in changed), *args, **more)

        layer.update = update
    return cache
