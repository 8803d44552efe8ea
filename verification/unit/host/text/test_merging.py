"""Merging neighbours: lowest first, leftmost of equals, until nothing merges."""

import numpy as np

from tailrace.text.merging import merge


def plain(parts: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """The definition: look for the best pair, join it, begin again."""
    while True:
        pairs = [(ranks[pair], i) for i, pair in enumerate(zip(parts, parts[1:])) if pair in ranks]
        if not pairs:
            return parts
        _, i = min(pairs)
        parts = [*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :]]


def test_as_the_definition_says(rng: np.random.Generator) -> None:
    for _ in range(300):
        texts = list("abc")
        ranks: dict[tuple[str, str], int] = {}
        for rank in range(12):
            left, right = rng.choice(texts, 2)
            ranks.setdefault((str(left), str(right)), rank // 2)
            texts.append(str(left + right))
        text = [str(c) for c in rng.choice(list("abc"), int(rng.integers(0, 40)))]
        assert merge(list(text), lambda left, right, r=ranks: r.get((left, right))) == plain(text, ranks)


def test_nothing_to_merge() -> None:
    assert merge([], lambda left, right: 0) == []
    assert merge(["a"], lambda left, right: 0) == ["a"]
    assert merge(["a", "b"], lambda left, right: None) == ["a", "b"]


def test_long_texts_are_quick() -> None:
    assert merge(["a"] * 30_000, lambda left, right: float(len(left)) if left == right else None).count("a") == 0
