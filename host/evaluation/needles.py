"""Needles in a haystack: numbers that are said once, to be found again; of the kind of RULER's (Hsieh et al., 2024)."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tailrace.spec.errors import ConfigError

#: Tokens that an answer has room for.
ANSWER_TOKENS = 16
#: Needles in a haystack, and samples of each length.
_NEEDLES, _SAMPLES = 4, 20
_NAMES = (
    "anchor", "basket", "candle", "dolphin", "ember", "falcon", "garden", "harbour", "island", "jacket", "kettle", "lantern",
    "marble", "needle", "orchard", "pepper", "quarry", "ribbon", "saddle", "teapot", "umbrella", "violin", "walnut", "zipper",
)  # fmt: skip
_HAY = (
    "The shop on the corner opens early.",
    "Two boats lie in the harbour.",
    "A cat sleeps on the wall.",
    "The baker carries flour into the house.",
    "It rained a little in the night.",
    "Children play behind the school.",
    "The bus stops at the old bridge.",
    "Somebody has left a bicycle here.",
    "The trees along the road are tall.",
    "In the evening the lamps are lit.",
)


@dataclass(frozen=True)
class Needle:
    """A text in which a number is to be found.

    Attributes
    ----------
    prompt : str
    number : str
    """

    prompt: str
    number: str


def needles_of(length: int, count_tokens: Callable[[str], int], *, samples: int = _SAMPLES, seed: int = 1) -> Iterator[Needle]:
    """Texts as long as fit.

    Parameters
    ----------
    length : int
        Tokens of prompt and answer.
    count_tokens : callable
        Tokens of a text.
    samples : int
    seed : int
        The same seed gives the same texts.

    Yields
    ------
    Needle

    Raises
    ------
    ConfigError
        If the length has no room for the needles alone.
    """
    room = length - ANSWER_TOKENS
    for sample in range(samples):
        # Each length and sample has its own numbers, however many there are.
        haystack = _Haystack(random.Random(f"{seed} {length} {sample}"))
        if count_tokens(haystack.text(0)) > room:
            raise ConfigError(f"{length} tokens have no room for {_NEEDLES} needles: ask for more")
        low, high = 0, length
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if count_tokens(haystack.text(middle)) <= room else (low, middle - 1)
        yield Needle(haystack.text(low), haystack.number)


class _Haystack:
    """Needles, their places, and which of them is asked for."""

    def __init__(self, source: random.Random) -> None:
        self._names = source.sample(_NAMES, _NEEDLES)
        self._numbers = [str(source.randrange(1_000_000, 10_000_000)) for _ in self._names]
        self._places = sorted(source.random() for _ in self._names)
        self._asked, self._first = source.randrange(_NEEDLES), source.randrange(len(_HAY))
        self.number = self._numbers[self._asked]

    def text(self, sentences: int) -> str:
        """The prompt, with so many sentences beside the needles."""
        hay = [_HAY[(self._first + n) % len(_HAY)] for n in range(sentences)]
        for place, name, number in reversed(list(zip(self._places, self._names, self._numbers, strict=True))):
            hay.insert(round(place * sentences), f"The secret number of the {name} is {number}.")
        asked = self._names[self._asked]
        return (
            "Some secret numbers are hidden in the following text. Remember them.\n"
            f"{' '.join(hay)}\n"
            f"Question: What is the secret number of the {asked}?\n"
            f"Answer: The secret number of the {asked} is"
        )
