"""Stop strings in text that is cut anywhere."""

import re

import numpy as np
import pytest

from tailrace.spec.errors import ConfigError
from tailrace.text.stop_strings import StopStrings


def given(strings: list[str], parts: list[str]) -> tuple[list[str], str | None]:
    """What is handed on after each part, and at the end; and what was found."""
    stop = StopStrings(strings)
    return [*(stop.put(part) for part in parts), stop.end()], stop.found


@pytest.mark.parametrize(
    ("strings", "parts", "handed", "found"),
    [
        (["\n\n"], ["one\n", "\ntwo"], ["one", "", ""], "\n\n"),
        (["\n\n"], ["one\n", "two"], ["one", "\ntwo", ""], None),
        (["\n\n"], ["one\n"], ["one", "\n"], None),
        (["abc"], ["ab", "ab", "c", "x"], ["", "ab", "", "", ""], "abc"),
        (["aab"], ["aa", "ab"], ["", "a", ""], "aab"),
        (["stop", "top"], ["xst", "op"], ["x", "", ""], "stop"),
        (["b", "abc"], ["abc"], ["a", ""], "b"),
        (["end", "nd"], ["the end"], ["the ", ""], "end"),
        ([], ["all", " of it"], ["all", " of it", ""], None),
        (["é€"], ["aé", "€b"], ["a", "", ""], "é€"),
    ],
)
def test_what_is_handed_on(strings: list[str], parts: list[str], handed: list[str], found: str | None) -> None:
    assert given(strings, parts) == (handed, found)


def test_it_does_not_matter_how_text_is_cut(rng: np.random.Generator) -> None:
    """Random texts of two letters: the same is handed on, as early as it can be, and nothing too early."""
    for _ in range(200):
        text = "".join(rng.choice(["a", "b"], 30))
        strings = ["".join(rng.choice(["a", "b"], n)) for n in rng.integers(2, 6, 2)]
        whole, found = given(strings, [text])
        cuts = [0, *sorted(rng.integers(0, 30, 6).tolist()), 30]
        parts, also = given(strings, [text[a:b] for a, b in zip(cuts, cuts[1:])])
        assert ("".join(parts), also) == ("".join(whole), found)
        # By hand: the first place where one of them is complete.
        end = next((n for n in range(31) if any(text[:n].endswith(s) for s in strings)), None)
        if end is None:
            assert ("".join(whole), found) == (text, None)
        else:
            longest = max((s for s in strings if text[:end].endswith(s)), key=len)
            assert ("".join(whole), found) == (text[: end - len(longest)], longest)


def test_no_text_is_no_stop_string() -> None:
    for wrong in ("", 5, None, "\ud83d", "a\udcff"):
        with pytest.raises(ConfigError, match=re.escape(f"a stop string must be some text, not {wrong!r}")):
            StopStrings([wrong])  # type: ignore[list-item]
