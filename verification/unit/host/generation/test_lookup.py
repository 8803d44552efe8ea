"""Drafts from what a text has said before."""

from itertools import pairwise

import numpy as np

from tailrace.generation.draft import Draft
from tailrace.generation.lookup import Lookup


def test_what_followed_the_last_time_is_drafted() -> None:
    text = [1, 2, 3, 9, 1, 2, 3, 4, 5, 6, 1, 2, 3]
    assert Lookup().draft(text, 3).tokens == (4, 5, 6)
    assert Lookup().draft(text[:7], 2).tokens == (9, 1)


def test_the_longest_match_counts() -> None:
    """After 2, 3 came 7; after 1, 2, 3, earlier, came 4."""
    assert Lookup().draft([1, 2, 3, 4, 2, 3, 7, 1, 2, 3], 1).tokens == (4,)


def test_a_text_that_repeats_itself_goes_on_to() -> None:
    assert Lookup().draft([8, 1, 2, 1, 2], 5).tokens == (1, 2, 1, 2, 1)
    assert Lookup().draft([5, 5], 3).tokens == (5, 5, 5)


def test_nothing_is_drafted_of_what_is_new() -> None:
    assert Lookup().draft([1, 2, 3], 4) == Draft()
    assert Lookup().draft([], 4) == Draft()
    assert Lookup().draft([1, 1], 0) == Draft()


def test_it_grows_with_the_text(rng: np.random.Generator) -> None:
    """Asked after each token, or only at the end: the same tokens are found."""
    text = [int(token) for token in rng.integers(0, 6, 200)]
    grown = Lookup()
    for length in range(len(text) + 1):
        assert grown.draft(text[:length], 4).tokens == Lookup().draft(text[:length], 4).tokens


def test_every_draft_is_of_the_text(rng: np.random.Generator) -> None:
    """Against a search of the whole text for the longest end, of at most four tokens, that it had before."""
    text = [int(token) for token in rng.integers(0, 5, 120)]
    lookup = Lookup()
    for length in range(1, len(text)):
        places: list[int] = []
        for count in range(min(4, length), 0, -1):
            end = text[length - count : length]
            places = [p for p in range(count, length) if text[p - count : p] == end]
            if places:
                break
        expected = (text[places[-1]],) if places else ()
        assert lookup.draft(text[:length], 1).tokens == expected


def test_chances_follow_what_was_right() -> None:
    """Of a text that repeats itself they rise, of one that never does what it did they fall; of the prompt nothing is learnt."""
    again, never = [1, 2, 3, 4, 5, 6, 7] * 20, [n for k in range(100) for n in (1, 2, 100 + k)]
    after = {}
    for name, text in {"again": again, "never": never}.items():
        lookup = Lookup(8)
        for length in range(8, len(text)):
            if text[length - 1] == 2:
                after[name] = lookup.draft(text[:length], 4)
    assert after["again"].chances[0] > 0.95
    assert after["never"].chances[0] < 0.1
    given, learnt = (Lookup(first).draft([*never, 1, 2], 1) for first in (len(never) + 2, 0))
    assert given.chances[0] > 0.3 > learnt.chances[0]


def test_the_more_is_the_same_the_likelier() -> None:
    draft = Lookup(100).draft([1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3], 4)
    assert draft.tokens == (4, 5, 6, 7)
    assert all(one <= other for one, other in pairwise(draft.chances))
    assert 0 < draft.chances[0] < draft.chances[-1] < 1
