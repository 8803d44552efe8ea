"""Draft models that do as they please, and times at which they are always asked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tailrace.generation.depth import Costs
from tailrace.generation.draft import Outlook
from tailrace.generation.upkeep import Upkeep

VOCABULARY = 288


class Fixed(Costs):
    """Times that do not depend on the machine.

    Parameters
    ----------
    first, more : float
        Of a pass with a row, and of each row more.
    """

    are_known = True

    def __init__(self, first: float, more: float) -> None:
        super().__init__()
        self._first, self._more = first, more

    def note(self, rows: int, seconds: float) -> None:
        """Nothing."""

    def of(self, rows: int) -> float:
        return self._first + self._more * (rows - 1)


class Steady(Upkeep):
    """Passes that fill a layer's cache take so many times as long as others, whatever they take on the machine.

    Parameters
    ----------
    times : float
    """

    def __init__(self, times: float) -> None:
        super().__init__(times - 1)

    def note(self, rows: int, seconds: float, fills: bool) -> float:
        """Nothing."""
        return seconds


class Scripted:
    """A draft model whose logits a function makes of a text.

    Parameters
    ----------
    says : callable
        Takes a text and returns logits.

    Attributes
    ----------
    calls : list of dict
        The texts of each call.
    """

    weight_bytes = 0

    def __init__(self, says: Callable[[list[int]], Any]) -> None:
        self.says, self.calls = says, list[dict[int, list[int]]]()

    def check(self, tokenizer: Any, batch: int) -> None:
        """Everything suits it."""

    def outlook(self, place: int, tokens: Sequence[int]) -> Outlook:
        return Outlook(1, 1, 16)

    def logits(self, texts: Mapping[int, Sequence[int]]) -> dict[int, Any]:
        self.calls.append({place: list(tokens) for place, tokens in texts.items()})
        return {place: self.says(list(tokens)) for place, tokens in texts.items()}


def certain(token: int, certainty: float = 20.0, vocabulary: int = VOCABULARY) -> Any:
    """Logits of a model that is certain of a token."""
    logits = np.zeros(vocabulary, np.float32)
    logits[token] = certainty
    return logits


def liar(rng: np.random.Generator) -> Scripted:
    """What is always certain, and never knows anything."""
    return Scripted(lambda tokens: certain(int(rng.integers(3, 259))))
