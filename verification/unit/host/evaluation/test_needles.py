"""Needles in a haystack: as long as asked for, with one answer."""

import re

import pytest

from tailrace.evaluation.needles import ANSWER_TOKENS, needles_of
from tailrace.spec.errors import ConfigError


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("length", [120, 256, 1024])
def test_they_fill_the_length(length: int, seed: int) -> None:
    for needle in needles_of(length, words, seed=seed):
        # One more sentence has at most eight words.
        assert length - 8 < words(needle.prompt) + ANSWER_TOKENS <= length


def test_the_number_is_said_once_and_can_be_told_apart(seed: int) -> None:
    found = list(needles_of(256, words, seed=seed))
    assert len(found) == 20
    for needle in found:
        numbers = re.findall(r"The secret number of the (\w+) is (\d+)\.", needle.prompt)
        assert len({name for name, _ in numbers}) == len({number for _, number in numbers}) == 4
        asked = re.search(r"Answer: The secret number of the (\w+) is$", needle.prompt)
        assert asked
        assert dict(numbers)[asked[1]] == needle.number
        assert needle.prompt.count(needle.number) == 1


def test_the_same_seed_gives_the_same_texts(seed: int) -> None:
    """Also where fewer are asked for; another seed and another length have other numbers."""
    found = list(needles_of(256, words, seed=seed))
    assert list(needles_of(256, words, samples=3, seed=seed)) == found[:3]
    for other in (needles_of(256, words, seed=seed + 1), needles_of(512, words, seed=seed)):
        assert not {needle.number for needle in other} & {needle.number for needle in found}


def test_they_are_all_over_the_text(seed: int) -> None:
    places = [
        needle.prompt.index(needle.number) / len(needle.prompt) for needle in needles_of(1024, words, samples=40, seed=seed)
    ]
    assert min(places) < 0.25
    assert max(places) > 0.75


def test_a_length_without_room() -> None:
    with pytest.raises(ConfigError, match=r"^40 tokens have no room for 4 needles: ask for more$"):
        list(needles_of(40, words))
