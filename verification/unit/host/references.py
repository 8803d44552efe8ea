"""What a decoder is compared with: Hugging Face models that see the keys and values as the device has stored them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from tailrace.decoder import Decoder
from tailrace.layout import blocks_of_stream
from tailrace.spec.formats import LANE_BYTES, Q8_0

Floats = NDArray[np.float32]


def divergence(reference: NDArray[Any], logits: NDArray[Any]) -> NDArray[np.float64]:
    """Kullback-Leibler divergence of each position."""

    def log_probabilities(x: NDArray[Any]) -> NDArray[np.float64]:
        x = x.astype(np.float64) - x.max(axis=-1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))

    p, q = log_probabilities(reference), log_probabilities(logits)
    return (np.exp(p) * (p - q)).sum(axis=-1)


def read_cache(decoder: Decoder, layer: int, sequence: int = 0) -> tuple[Floats, Floats]:
    """Keys and values of a layer as the device has them, shape (kv_heads, capacity, head_size)."""
    place = decoder.image.placement.caches[sequence][layer]
    attention, lanes = decoder.imported.description.layers[layer].attention, decoder.image.build.lanes
    size, capacity, read = attention.head_size, place.capacity, decoder.device.transport.read
    blocks, groups = -(-size // 32), -(-size // lanes)
    keys, values = [], []
    for head in range(attention.kv_heads):
        raw = read(place.keys + head * place.key_stride, Q8_0.matrix_bytes(capacity, blocks, lanes))
        table = blocks_of_stream(Q8_0, np.frombuffer(raw, np.uint8), capacity, blocks, lanes).reshape(capacity, blocks, 34)
        scales = np.ascontiguousarray(table[..., :2]).view("<f2").astype(np.float32)
        keys.append((scales * table[..., 2:].view(np.int8)).reshape(capacity, -1)[:, :size])
        raw = read(place.values + head * place.value_stride, groups * place.row_stride)
        beats = np.frombuffer(raw, np.int8).reshape(groups, capacity // LANE_BYTES, lanes, LANE_BYTES)
        codes = beats.swapaxes(1, 2).reshape(groups * lanes, capacity)[:size].T
        scale = np.frombuffer(read(place.scales + head * place.scale_stride, 4 * capacity), "<f4")
        values.append(scale[:, None] * codes)
    return np.array(keys), np.array(values, dtype=np.float32)


def decode(decoder: Decoder, tokens: Sequence[int]) -> tuple[Floats, list[tuple[Floats, Floats]]]:
    """Logits of every position of a text, and each layer's keys and values, all positions, as they were written."""
    logits, steps = [], []
    layers = decoder.imported.description.layers
    for token in tokens:
        position = decoder.positions[0]
        logits.append(decoder.step(int(token)))
        rows = [position if layer.attention.window is None else position % layer.attention.window for layer in layers]
        caches = [read_cache(decoder, n) for n in range(len(layers))]
        steps.append([(keys[:, row], values[:, row]) for (keys, values), row in zip(caches, rows, strict=True)])
    held = [tuple(np.stack([step[n][i] for step in steps], axis=1) for i in (0, 1)) for n in range(len(layers))]
    return np.array(logits), held


def reference_logits(model: Any, tokens: Sequence[int], held: Sequence[tuple[Floats, Floats]] | None = None) -> Floats:
    """A Hugging Face model's logits of every position; with `held`, attention sees these keys and values in place of its own.

    Its own ones must be near them: within one and a half steps of an 8-bit code.
    """
    cache = DynamicCache(config=model.config)
    for n, layer in enumerate(cache.layers if held is not None else []):
        stored = tuple(torch.from_numpy(np.ascontiguousarray(part))[None] for part in held[n])

        def update(keys: Any, values: Any, *args: Any, original: Any = layer.update, stored: Any = stored, **more: Any) -> Any:
            for own, given in zip((keys, values), stored, strict=True):
                assert (own - given).abs().max() <= 1.5 / 127 * own.abs().max()
            return original(*stored, *args, **more)

        layer.update = update
    with torch.no_grad():
        return model(torch.tensor([list(map(int, tokens))]), past_key_values=cache, use_cache=True).logits[0].numpy()
