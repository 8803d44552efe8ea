"""The gated delta rule with a state and a list in codes of any width, in place of transformers' own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.models.qwen3_5 import modeling_qwen3_5

from tailrace.spec.formats import BLOCK
from tailrace.spec.linear_attention import FOLD


@contextmanager
def coded(bits: int) -> Iterator[None]:
    """Within, models of Qwen 3.5 keep states and lists in codes of so many bits, and fold lists as the device does."""
    kept = modeling_qwen3_5.torch_chunk_gated_delta_rule

    def rule(query: Any, key: Any, value: Any, g: Any, beta: Any, **_: Any) -> tuple[Any, Any]:
        return _gated_delta_rule(query, key, value, g, beta, bits)

    modeling_qwen3_5.torch_chunk_gated_delta_rule = rule
    try:
        yield
    finally:
        modeling_qwen3_5.torch_chunk_gated_delta_rule = kept


def _gated_delta_rule(query: Any, key: Any, value: Any, g: Any, beta: Any, bits: int) -> tuple[Any, Any]:
    """Outputs, shape (1, tokens, value heads, value size), and the last state; arguments as transformers has them."""
    ratio = value.shape[2] // key.shape[2]
    query, key = (_of_length_one(x.float()).repeat_interleave(ratio, dim=2)[0] for x in (query, key))
    value, g, beta = (x.float()[0] for x in (value, g, beta))
    query = query * query.shape[-1] ** -0.5
    tokens, heads, size = key.shape
    state = torch.zeros(heads, size, value.shape[-1])
    keys, deltas, outputs = [], [], []
    since = decays = torch.zeros(0)
    for t in range(tokens):
        if t and t % FOLD == 0:
            state = _rounded(_folded(state, keys, deltas, decays, since), bits, state.shape[-1])
            keys, deltas = [], []
        decays = torch.cat([decays, torch.zeros(1, heads)]) if keys else torch.zeros(1, heads)
        since = (since if keys else torch.zeros(heads)) + g[t]
        decays[:-1] += g[t]
        past = _folded(state, keys, deltas, decays, since)
        delta = (value[t] - torch.einsum("hkv,hk->hv", past, key[t])) * beta[t, :, None]
        outputs.append(torch.einsum("hkv,hk->hv", past + key[t, :, :, None] * delta[:, None], query[t]))
        keys.append(_rounded(key[t], bits, BLOCK))
        deltas.append(_rounded(delta, bits, delta.shape[-1]))
    return torch.stack(outputs)[None], _folded(state, keys, deltas, decays, since)[None]


def _of_length_one(vectors: Any) -> Any:
    return vectors * torch.rsqrt((vectors * vectors).sum(dim=-1, keepdim=True) + 1e-6)


def _folded(state: Any, keys: list[Any], deltas: list[Any], decays: Any, since: Any) -> Any:
    """The state with all of the list, decayed up to now."""
    whole = state * since.exp()[:, None, None] if len(since) else state
    for n, (key, delta) in enumerate(zip(keys, deltas, strict=True)):
        whole = whole + decays[n].exp()[:, None, None] * key[:, :, None] * delta[:, None]
    return whole


def _rounded(numbers: Any, bits: int, block: int) -> Any:
    """Numbers as codes of so many bits and a scale for each `block` of them."""
    blocks = numbers.reshape(-1, block)
    scale = blocks.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    return (torch.round(blocks / scale.clamp_min(1e-30)) * scale).reshape(numbers.shape)
