"""How an attention backend of vLLM lays keys and values out in a block of its cache: found out with known vectors."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tailrace.spec.errors import ModelError

#: Whole numbers below this are exact in float32, float16 and bfloat16.
_DIGIT = 256
#: Block 0 is vLLM's own: nobody reads what lies there.
_BLOCKS = (1, 2)
TYPES = (torch.float32, torch.float16, torch.bfloat16)

#: Writes keys and values of shape (tokens, kv_heads, head_size) to slots of a cache, as the backend does.
Write = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


@dataclass(frozen=True)
class Layout:
    """Where the keys and values of a block lie.

    Attributes
    ----------
    places : tensor of int64, shape (2, tokens, head_size)
        Of each key, and of each value, its place among the elements that a block has for one KV head.
    """

    places: torch.Tensor

    def unpack(self, cache: torch.Tensor, blocks: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a sequence.

        Parameters
        ----------
        cache : tensor, shape (blocks, kv_heads, ...)
        blocks : tensor of int64, shape (blocks,)
            Of the sequence, in its order.
        count : int
            Tokens of the sequence.

        Returns
        -------
        tuple of tensor, shape (kv_heads, count, head_size)
            Copies.
        """
        held = cache[blocks].flatten(2)
        _, tokens, size = self.places.shape
        both = held[:, :, self.places.flatten().to(held.device)].unflatten(2, (2, tokens, size))
        keys, values = (both[:, :, n].transpose(0, 1).flatten(1, 2)[:, :count].contiguous() for n in (0, 1))
        return keys, values


def measure_layout(cache: torch.Tensor, heads: int, size: int, write: Write) -> Layout:
    """Find out where a backend puts each element of a block.

    Keys and values that number their own elements are written as the backend writes them, and looked for. Two blocks of the
    cache are zero afterwards.

    Parameters
    ----------
    cache : tensor, shape (blocks, kv_heads, tokens, elements)
        As vLLM registers it; nobody uses it yet.
    heads, size : int
        KV heads, and elements of a head.
    write : callable

    Raises
    ------
    ModelError
        If elements are not found again, each once and as they were.
    """
    _check_shape(cache, heads, size)
    tokens = cache.shape[2]
    total = 2 * tokens * size
    numbers = torch.arange(total, device=cache.device).reshape(2, tokens, 1, size).expand(2, tokens, heads, size)
    slots = _BLOCKS[0] * tokens + torch.arange(tokens, device=cache.device)
    found = torch.zeros((heads, total), dtype=torch.int64, device=cache.device)
    power = 1
    while power < total:
        digits = (numbers // power % _DIGIT).to(cache.dtype).contiguous()
        write(digits[0], digits[1], slots)
        found += cache[_BLOCKS[0]].flatten(1).to(torch.int64) * power
        power *= _DIGIT
    if (found.sort().values != torch.arange(total, device=cache.device)).any() or (found != found[0]).any():
        raise _unknown(cache, "elements of keys and values are not found again where they were written")
    layout = Layout(found[0].argsort().reshape(2, tokens, size).cpu())
    cache[list(_BLOCKS)] = 0
    return layout


def check_layout(layout: Layout, cache: torch.Tensor, heads: int, size: int, write: Write) -> None:
    """Write random keys and values, in no order, and look whether a layout gives them back bit by bit.

    Raises
    ------
    ModelError
        If it does not.
    """
    _check_shape(cache, heads, size)
    tokens = cache.shape[2]
    # Not vLLM's own random numbers.
    random = torch.Generator().manual_seed(1)
    order = torch.randperm(2 * tokens, generator=random)
    written = torch.randn((2, 2 * tokens, heads, size), generator=random).to(cache.device, cache.dtype)
    slots = (torch.tensor(_BLOCKS).repeat_interleave(tokens) * tokens + torch.arange(tokens).repeat(2)).to(cache.device)
    order = order.to(cache.device)
    write(written[0, order], written[1, order], slots[order])
    found = layout.unpack(cache, torch.tensor(_BLOCKS, device=cache.device), 2 * tokens)
    cache[list(_BLOCKS)] = 0
    for part, own in zip(found, written, strict=True):
        if not torch.equal(part, own.transpose(0, 1)):
            raise _unknown(cache, "keys and values do not come back as they were written")


def _check_shape(cache: torch.Tensor, heads: int, size: int) -> None:
    if cache.dtype not in TYPES:
        raise _unknown(cache, "only caches of float32, float16 and bfloat16 are handed over: set kv_cache_dtype to auto")
    if cache.ndim != 4 or cache.shape[1] != heads or cache.shape[2] * cache.shape[3] != 2 * cache.shape[2] * size:
        raise _unknown(cache, f"a block is to have {heads} KV heads with keys and values of {size} elements for each token")
    if cache.shape[0] <= max(_BLOCKS):
        raise _unknown(cache, f"it has {cache.shape[0]} blocks, and {max(_BLOCKS) + 1} are needed: give the cache more memory")


def _unknown(cache: torch.Tensor, reason: str) -> ModelError:
    return ModelError(
        f"the KV cache of this attention backend ({str(cache.dtype).removeprefix('torch.')}, {tuple(cache.shape)}) can't be"
        f" handed over: {reason}. Another backend (--attention-backend) may do"
    )
