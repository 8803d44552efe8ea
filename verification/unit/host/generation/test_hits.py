"""How often drafts were right, by their kind."""

import pytest

from tailrace.generation.hits import Hits


def test_it_begins_with_the_prior() -> None:
    assert Hits([0.25, 0.75]).chances() == [0.25, 0.75]


def test_what_is_seen_counts_for_its_kind() -> None:
    hits = Hits([0.5, 0.5])
    hits.note(0, 1)
    hits.note(0, 0.5)
    assert hits.chance(0) == pytest.approx(3.5 / 6)
    assert hits.chance(1) == 0.5


def test_what_was_first_counts_less_and_less() -> None:
    hits = Hits([0.5])
    for _ in range(1000):
        hits.note(0, 1)
    assert hits.chance(0) > 0.99
    for _ in range(100):
        hits.note(0, 0)
    assert hits.chance(0) < 0.35
