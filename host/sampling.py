"""Tokens, one after the other: a prompt goes in, and the model's answer comes out."""

from collections.abc import Iterator, Sequence

import numpy as np

from .device.decoder import Decoder
from .image.kv_cache import Floats


class Sampler:
    """Draws tokens from the distribution that logits stand for.

    Parameters
    ----------
    temperature : float
        What logits are divided by, above 0.
    top_p : float
        Only the likeliest tokens whose probabilities together reach this are drawn from; 1: all.
    seed : int
    """

    def __init__(self, temperature: float, top_p: float = 1.0, seed: int = 0) -> None:
        self._temperature, self._top_p = temperature, top_p
        self._random = np.random.default_rng(seed)

    def choose(self, logits: Floats) -> int:
        """A token for logits of shape (vocabulary,)."""
        scaled = logits.astype(np.float64) / self._temperature
        weights = np.exp(scaled - scaled.max())
        order = np.argsort(-weights, kind="stable")
        total = np.cumsum(weights[order])
        kept = order[: int(np.searchsorted(total, self._top_p * total[-1])) + 1]
        return int(self._random.choice(kept, p=weights[kept] / weights[kept].sum()))


def generate(
    decoder: Decoder,
    last: int,
    count: int,
    ends: frozenset[int] | Sequence[int] = frozenset(),
    *,
    sampler: Sampler | None = None,
    tokens_per_doorbell: int = 1,
) -> Iterator[int]:
    """Decode with a decoder of one sequence that has taken all of a prompt but its last token.

    Parameters
    ----------
    decoder : Decoder
    last : int
        The prompt's last token.
    count : int
        Tokens to yield at most.
    ends : set of int
        Tokens that end the answer; they are not yielded.
    sampler : Sampler or None
        None: the best token, which the device chooses itself.
    tokens_per_doorbell : int
        Tokens that the device chooses at a time; those after the end of an answer are dropped.

    Yields
    ------
    int
        The next token.
    """
    token = last
    while count > 0:
        if sampler is not None:
            chosen = [sampler.choose(decoder.step(token))]
        else:
            size = min(count, tokens_per_doorbell)
            chosen = [t for t in decoder.run(token, size) if isinstance(t, int)]
        for token in chosen:
            if token in ends:
                return
            yield token
        count -= len(chosen)
