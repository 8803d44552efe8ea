"""From a prompt that PyTorch has computed to a decoder that goes on from there: the KV cache changes hands, layer by layer."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from tailrace.spec.errors import ModelError

from ..device.decoder import Decoder


def hand_over(decoder: Decoder, cache: DynamicCache, lengths: Sequence[int] | None = None) -> None:
    """Load a decoder with the cache of a Hugging Face model, quantised as the device quantises it.

    One layer at a time comes to the host, as float32, whatever the cache is.

    Parameters
    ----------
    decoder : Decoder
        Its sequences are started over. Those beyond the cache's stay empty.
    cache : DynamicCache
        Of a model with the same weights, filled with one or more sequences.
    lengths : sequence of int or None
        Tokens of each sequence; what lies before the last that many (padding on the left) is left out. None: all are of one
        length, without padding.

    Raises
    ------
    ModelError
        If the cache is not that of such a model.
    LimitError
        If a sequence is longer than the decoder's context.
    """
    if decoder.imported.description.is_recurrent:
        raise ModelError(
            f"{decoder.imported.name} has layers without a KV cache, and states are not handed over: let the device compute the"
            " prompt, with prefill"
        )
    if decoder.imported.description.has_latents:
        raise ModelError(
            f"{decoder.imported.name} has latent attention, whose cache is not handed over: let the device compute the"
            " prompt, with prefill"
        )
    layers = decoder.imported.description.attentions
    if len(cache.layers) != len(layers):
        raise ModelError(f"the cache has {len(cache.layers)} layers, and the model {len(layers)}: use that of the same model")
    total = int(cache.get_seq_length())
    wanted = [total] * decoder.batch if lengths is None else list(lengths)
    if len(wanted) > decoder.batch or not all(0 <= n <= total for n in wanted):
        raise ModelError(f"the cache has {total} tokens for each of its sequences, which does not fit lengths {wanted}")
    decoder.reset()
    for layer, held in enumerate(cache.layers):
        keys, values = (_on_the_host(t) for t in (held.keys, held.values))
        expected = (len(wanted), layers[layer].kv_heads, layers[layer].head_size)
        if (*keys.shape[:2], keys.shape[3]) != expected:
            raise ModelError(
                f"the cache of layer {layer} has {keys.shape[0]} sequences, {keys.shape[1]} KV heads of {keys.shape[3]}, not"
                f" {expected[0]}, {expected[1]} of {expected[2]}"
            )
        for sequence, length in enumerate(wanted):
            # Of a sliding window, only the last tokens are there.
            count = min(length, keys.shape[2])
            first = keys.shape[2] - count
            decoder.load_cache(layer, sequence, length - count, keys[sequence, :, first:], values[sequence, :, first:])
    decoder.positions[: len(wanted)] = wanted


def _on_the_host(part: torch.Tensor) -> Any:
    return part.detach().to("cpu", torch.float32).numpy()
