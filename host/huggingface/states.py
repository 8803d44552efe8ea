"""States as transformers keeps them, in the order of the device: heads, rows and columns, and the channels of convolutions."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailrace.firmware.description import LinearAttention, Rule, ShortConvolution
from tailrace.spec.errors import ModelError

from . import internals

Floats = NDArray[np.float32]


def states_of(
    layer: Any, mixer: LinearAttention | ShortConvolution, hidden: int, sequences: int, what: str
) -> tuple[Floats, Floats | None]:
    """What a layer of a cache keeps of each sequence, as `Decoder.load_state` takes it.

    Parameters
    ----------
    layer : LinearAttentionCacheLayerMixin
    mixer : LinearAttention or ShortConvolution
        What the device has there.
    hidden : int
        Channels of a short convolution.
    sequences : int
        Sequences that the cache is to have.
    what : str
        The layer, for messages.

    Returns
    -------
    inputs : ndarray of float32, shape (sequences, kernel - 1, channels)
    state : ndarray of float32, shape (sequences, value_heads, key_size, value_size), or None

    Raises
    ------
    ModelError
        If it keeps something of another shape, or nothing.
    """
    inputs, state = internals.state_of(layer)
    channels = hidden if isinstance(mixer, ShortConvolution) else mixer.channels
    _check(what, "the last inputs of a convolution", inputs, (sequences, channels, mixer.kernel))
    # The first of them is not seen any more.
    seen = on_the_host(inputs)[:, :, 1:].swapaxes(1, 2)
    if isinstance(mixer, ShortConvolution):
        return seen, None
    is_turned = mixer.rule is Rule.STATE_SPACE
    sizes = (mixer.value_size, mixer.key_size) if is_turned else (mixer.key_size, mixer.value_size)
    _check(what, "a state", state, (sequences, mixer.value_heads, *sizes))
    found = on_the_host(state)[:, value_heads(mixer)]
    return seen[:, :, _channels(mixer)], found.swapaxes(2, 3) if is_turned else found


def on_the_host(part: Any) -> Any:
    """A tensor as float32, in numpy."""
    return part.detach().to("cpu", torch.float32).numpy()


def value_heads(a: LinearAttention) -> NDArray[np.int64]:
    """For each value head of the device that of transformers, where those of a key head lie side by side."""
    ratio = a.value_heads // a.key_heads
    heads = range(a.value_heads)
    return np.array([a.key_head(h) * ratio + (h // a.key_heads if a.tiled else h % ratio) for h in heads])


def _channels(a: LinearAttention) -> NDArray[np.int64]:
    """For each channel of the device, which has queries, keys and values in this order, that of transformers."""
    values = np.arange(a.values).reshape(a.value_heads, a.value_size)[value_heads(a)].reshape(-1)
    keys = np.arange(a.keys)
    if a.rule is Rule.STATE_SPACE:
        # Values, keys, queries, which are called x, B and C there.
        return np.concatenate([a.values + a.keys + keys, a.values + keys, values])
    return np.concatenate([keys, a.keys + keys, 2 * a.keys + values])


def _check(what: str, kept: str, part: torch.Tensor | None, shape: tuple[int, ...]) -> None:
    if part is None:
        raise ModelError(f"the cache of {what} lacks {kept}: fill it with the prompt, by the same model")
    if tuple(part.shape) != shape:
        raise ModelError(
            f"the cache of {what} has {kept} of the shape {tuple(part.shape)}, not {shape}: use that of the same model"
        )
