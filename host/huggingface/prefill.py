"""The prompt, computed by PyTorch: where the model is, in its own dtype, and in chunks if that was asked for."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from tailrace.spec.errors import ModelError

from . import internals


def prefill(
    model: Any,
    input_ids: torch.Tensor,
    cache: DynamicCache,
    attention_mask: torch.Tensor | None = None,
    chunk_size: int | None = None,
) -> None:
    """Fill a cache with the positions that it does not have yet.

    Parameters
    ----------
    model : PreTrainedModel
    input_ids : tensor of int64, shape (batch, positions)
    cache : DynamicCache
        Holds as many positions from the first one on as it likes.
    attention_mask : tensor of int64, shape (batch, positions), or None
        0: padding.
    chunk_size : int or None
        Positions that are computed at a time; None: all.

    Raises
    ------
    ModelError
        If the cache does not tell how many positions it holds.
    ToolError
        If this version of transformers gives such models their caches by another name.
    """
    internals.check_cache_argument(model)
    end, start = input_ids.shape[1], internals.length_of(cache)
    if start is None:
        raise ModelError("a cache without keys and values does not say how many tokens it has seen: leave it out")
    places = None if attention_mask is None else (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
    while start < end:
        stop = min(end, start + chunk_size) if chunk_size else end
        model(
            input_ids=input_ids[:, start:stop].to(model.device),
            attention_mask=None if attention_mask is None else attention_mask[:, :stop].to(model.device),
            position_ids=None if places is None else places[:, start:stop].to(model.device),
            logits_to_keep=1,
            **internals.with_cache(cache),
        )
        start = stop


def lengths_of(attention_mask: torch.Tensor | None, input_ids: torch.Tensor) -> Sequence[int]:
    """Tokens of each sequence of a batch.

    Raises
    ------
    ModelError
        If the mask has another shape than the tokens, or padding is not on the left.
    """
    if attention_mask is None:
        return [input_ids.shape[1]] * len(input_ids)
    if attention_mask.shape != input_ids.shape:
        raise ModelError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}, and input_ids {tuple(input_ids.shape)}: give both as"
            " the tokenizer returns them"
        )
    lengths = [int(n) for n in (attention_mask == 1).sum(-1)]
    for sequence, length in enumerate(lengths):
        padding = attention_mask[sequence, : attention_mask.shape[1] - length]
        if length == 0 or bool((padding != 0).any()):
            raise ModelError(
                f"the attention mask of sequence {sequence} is not padding followed by tokens: pad on the left"
                " (padding_side='left')"
            )
    return lengths
