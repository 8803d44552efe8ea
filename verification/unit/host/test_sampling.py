"""Sampling, and where generation ends."""

from typing import Any

import numpy as np
import pytest

from tailrace.sampling import Sampler, generate

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))


def drawn(sampler: Sampler, times: int = 2000) -> np.ndarray:
    return np.bincount([sampler.choose(LOGITS) for _ in range(times)], minlength=4) / times


def test_sampling_follows_the_distribution() -> None:
    assert drawn(Sampler(1.0, seed=1)) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.04)
    hot = np.exp(LOGITS / 2)
    assert drawn(Sampler(2.0, seed=1)) == pytest.approx(hot / hot.sum(), abs=0.04)


def test_only_the_likeliest_tokens() -> None:
    assert drawn(Sampler(1.0, 0.8, seed=2)) == pytest.approx([0.625, 0.375, 0, 0], abs=0.04)
    assert drawn(Sampler(1.0, 0.81, seed=2))[2] > 0
    assert drawn(Sampler(1.0, 0.01, seed=2)).tolist() == [1, 0, 0, 0]


def test_the_seed_decides() -> None:
    same = [[Sampler(1.0, seed=s).choose(LOGITS) for _ in range(3)] for s in (3, 3)]
    assert same[0] == same[1]


class Counting:
    """Chooses the next number; logits prefer it, too."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def run(self, token: int, count: int) -> list[int]:
        self.calls.append((token, count))
        return [token + 1 + i for i in range(count)]

    def step(self, token: int) -> np.ndarray:
        self.calls.append(token)
        return np.where(np.arange(20) == token + 1, np.float32(50), np.float32(0))


def tokens(decoder: Counting, *arguments: Any, **options: Any) -> list[int]:
    return list(generate(decoder, *arguments, **options))  # type: ignore[arg-type]


def test_as_many_tokens_as_asked_for() -> None:
    decoder = Counting()
    assert tokens(decoder, 4, 3) == [5, 6, 7]
    assert decoder.calls == [(4, 1), (5, 1), (6, 1)]
    decoder = Counting()
    assert tokens(decoder, 4, 5, tokens_per_doorbell=3) == [5, 6, 7, 8, 9]
    assert decoder.calls == [(4, 3), (7, 2)]


def test_the_end_of_an_answer() -> None:
    decoder = Counting()
    assert tokens(decoder, 4, 9, {7}, tokens_per_doorbell=4) == [5, 6]
    assert decoder.calls == [(4, 4)]
    decoder = Counting()
    assert tokens(decoder, 4, 9, {7}, sampler=Sampler(1.0)) == [5, 6]
    assert decoder.calls == [4, 5, 6]
