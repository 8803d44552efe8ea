"""Layouts of vLLM's cache: found out for whatever backend, or refused."""

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from tailrace import ModelError
from tailrace.vllm.layout import check_layout, measure_layout
from verification.unit.host.vllm.fakes import Backend, Rounding

HEADS, TOKENS, SIZE = 3, 16, 24


def writer(backend: Backend, cache: Any) -> Any:
    return lambda keys, values, slots: backend.do_kv_cache_update(None, keys, values, cache, slots)


def empty(kind: Any = torch.float32, blocks: int = 8, size: int = SIZE) -> Any:
    return torch.zeros((blocks, HEADS, TOKENS, 2 * size), dtype=kind)


@pytest.mark.parametrize("layout", ["interleaved", "transposed", "packed"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("by_tokens", [False, True])
def test_prompts_come_back_bit_by_bit(seed: int, layout: str, kind: Any, by_tokens: bool) -> None:
    """Blocks in any order, the last one not full; also where memory has tokens outside heads (NHD)."""
    cache = empty(kind)
    if by_tokens and layout == "interleaved":
        cache = cache.transpose(1, 2).contiguous().transpose(1, 2)
    write = writer(Backend(layout, SIZE), cache)
    found = measure_layout(cache, HEADS, SIZE, write)
    check_layout(found, cache, HEADS, SIZE, write)
    assert not cache.any()
    random = torch.Generator().manual_seed(seed)
    count, blocks = 3 * TOKENS + 5, torch.tensor([6, 0, 7, 3])
    written = torch.randn((2, count, HEADS, SIZE), generator=random).to(kind)
    place = torch.arange(count)
    write(written[0], written[1], blocks[place // TOKENS] * TOKENS + place % TOKENS)
    keys, values = found.unpack(cache, blocks, count)
    assert torch.equal(keys, written[0].transpose(0, 1))
    assert torch.equal(values, written[1].transpose(0, 1))
    assert keys.is_contiguous()


def test_another_backend_does_not_pass_for_the_first(seed: int) -> None:
    cache = empty()
    found = measure_layout(cache, HEADS, SIZE, writer(Backend("transposed", SIZE), cache))
    with pytest.raises(ModelError, match="keys and values do not come back as they were written"):
        check_layout(found, cache, HEADS, SIZE, writer(Backend("interleaved", SIZE), cache))


@pytest.mark.parametrize(
    ("cache", "backend", "text"),
    [
        (empty(torch.float8_e4m3fn), Backend("interleaved", SIZE), "(float8_e4m3fn, (8, 3, 16, 48)) can't be handed over: only caches of float32, float16 and bfloat16 are handed over: set kv_cache_dtype to auto"),
        (empty(size=20), Backend("interleaved", 20), "a block is to have 3 KV heads with keys and values of 24 elements for each token"),
        (empty(blocks=2), Backend("interleaved", SIZE), "it has 2 blocks, and 3 are needed: give the cache more memory"),
        (empty(), Backend("nothing is written", SIZE), "elements of keys and values are not found again where they were written. Another backend (--attention-backend) may do"),
        (empty(), Rounding("interleaved", SIZE), "elements of keys and values are not found again where they were written"),
    ],
)  # fmt: skip
def test_what_is_refused(cache: Any, backend: Backend, text: str) -> None:
    with pytest.raises(ModelError) as refused:
        measure_layout(cache, HEADS, SIZE, writer(backend, cache))
    assert text in str(refused.value)
    assert str(refused.value).startswith("the KV cache of this attention backend (")
