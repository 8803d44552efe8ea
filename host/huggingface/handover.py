"""From a prompt that PyTorch has computed to a decoder that goes on from there: caches and states, layer by layer."""

from collections.abc import Sequence
from typing import Any

from transformers import DynamicCache

from tailrace.firmware.description import Attention, LinearAttention, ShortConvolution
from tailrace.spec.errors import ModelError

from ..device.decoder import Decoder
from . import internals
from .states import on_the_host, states_of


def hand_over(decoder: Decoder, cache: DynamicCache, lengths: Sequence[int] | None = None) -> None:
    """Load a decoder with the cache of a Hugging Face model, quantised as the device quantises it.

    One layer at a time comes to the host, as float32, whatever the cache is. Layers without a KV cache hand their states over.

    Parameters
    ----------
    decoder : Decoder
        Its sequences are started over. Those beyond the cache's stay empty.
    cache : DynamicCache
        Of a model with the same weights, filled with one or more sequences.
    lengths : sequence of int or None
        Tokens of each sequence; what lies before the last that many (padding on the left) is left out. None: all are of one
        length, without padding, which a cache without keys and values does not know.

    Raises
    ------
    ModelError
        If the cache is not that of such a model.
    LimitError
        If a sequence is longer than the decoder's context.
    """
    description = decoder.imported.description
    if description.has_latents:
        raise ModelError(
            f"{decoder.imported.name} has latent attention, whose cache is not handed over: let the device compute the"
            " prompt, with prefill"
        )
    held, layers = internals.layers_of(cache), description.layers
    if len(held) != len(layers):
        raise ModelError(f"the cache has {len(held)} layers, and the model {len(layers)}: use that of the same model")
    wanted = _lengths(decoder, cache, lengths)
    decoder.reset()
    for n, (kept, layer) in enumerate(zip(held, layers, strict=True)):
        if isinstance(layer.attention, Attention):
            _hand_over_keys_and_values(decoder, n, layer.attention, kept, wanted)
        mixer = layer.beside or layer.attention
        if not isinstance(mixer, Attention):
            _hand_over_states(decoder, n, mixer, kept, wanted)
    for sequence, length in enumerate(wanted):
        decoder.resume(sequence, length)


def _lengths(decoder: Decoder, cache: DynamicCache, lengths: Sequence[int] | None) -> list[int]:
    """Tokens of each sequence, as far as the cache can tell."""
    total = internals.length_of(cache)
    if total is None and lengths is None:
        raise ModelError("a cache without keys and values does not say how many tokens it has seen: give their lengths")
    wanted = [total or 0] * decoder.batch if lengths is None else list(lengths)
    if len(wanted) > decoder.batch or not all(0 <= n <= (n if total is None else total) for n in wanted):
        tokens = "an unknown number of" if total is None else total
        raise ModelError(f"the cache has {tokens} tokens for each of its sequences, which does not fit lengths {wanted}")
    return wanted


def _hand_over_keys_and_values(decoder: Decoder, layer: int, attention: Attention, kept: Any, wanted: Sequence[int]) -> None:
    if not internals.has_keys(kept):
        raise ModelError(f"the cache of layer {layer} has no keys and values, and the model's has: use that of the same model")
    keys, values = (on_the_host(t) for t in (kept.keys, kept.values))
    expected = (len(wanted), attention.kv_heads, attention.head_size)
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


def _hand_over_states(
    decoder: Decoder, layer: int, mixer: LinearAttention | ShortConvolution, kept: Any, wanted: Sequence[int]
) -> None:
    if not internals.has_state(kept):
        raise ModelError(f"the cache of layer {layer} has no state, and the model's has: use that of the same model")
    hidden = decoder.imported.description.hidden
    inputs, states = states_of(kept, mixer, hidden, len(wanted), f"layer {layer}")
    for sequence, length in enumerate(wanted):
        if length:
            state = None if states is None else states[sequence]
            decoder.load_state(layer, sequence, length, inputs[sequence], state)
