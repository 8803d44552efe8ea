"""Drafts of an answer's next tokens: what followed the last time that the text said the same.

Prompt lookup: A. Saxena, "Prompt Lookup Decoding", 2023 (github.com/apoorvumang/prompt-lookup-decoding); the same idea for
whatever the text has is N. Yang et al., "Inference with Reference", 2023 (arXiv:2304.04487).
"""

from collections.abc import Sequence
from dataclasses import dataclass

#: Tokens by which a place in the text is found, at most.
_LONGEST = 4
#: Tokens that are compared beyond these: more of them say no more of what follows.
_COMPARED = 16
#: How likely the next token is what followed then, before anything is known of the text: for 1, 2 to 3, 4 to 7, 8 to 15, and 16
#: or more tokens that both places have before it.
_PRIOR = (0.15, 0.4, 0.6, 0.75, 0.9)
#: How many tokens the prior is worth; and after how many what was seen first begins to count less.
_WEIGHT, _MEMORY = 4.0, 64.0


@dataclass(frozen=True)
class Draft:
    """Tokens that may come next.

    Attributes
    ----------
    tokens : tuple of int
    chances : tuple of float
        For each how likely it is right, if all before it are.
    """

    tokens: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()


class Lookup:
    """Finds the last place where a text said what it says at its end, and knows how often that was of use.

    Parameters
    ----------
    first : int
        Tokens of the text that were given: of those nothing is learnt about how it goes on.
    """

    def __init__(self, first: int = 0) -> None:
        self._first, self._known = first, 0
        # For 1, 2, ... tokens: where the text went on, the last time that it had these.
        self._places: list[dict[tuple[int, ...], int]] = [{} for _ in range(_LONGEST)]
        self._tried = [_WEIGHT] * len(_PRIOR)
        self._right = [_WEIGHT * chance for chance in _PRIOR]

    def draft(self, tokens: Sequence[int], most: int) -> Draft:
        """What may come next.

        Parameters
        ----------
        tokens : sequence of int
            The text: that of the call before, and what has been added.
        most : int
            Tokens that are wanted.
        """
        for position in range(self._known, len(tokens)):
            self._learn(tokens, position)
        self._known = max(self._known, len(tokens))
        found = self._find(tokens, len(tokens))
        if found is None or most < 1:
            return Draft()
        place, same = found
        drafted = list(tokens[place : place + most])
        while len(drafted) < most:
            # The text repeats itself, and goes on to do so.
            drafted.append(drafted[len(drafted) - (len(tokens) - place)])
        return Draft(tuple(drafted), tuple(self._chance(same + n) for n in range(most)))

    def _learn(self, tokens: Sequence[int], position: int) -> None:
        """Note what the text has at a position, and whether that could have been known."""
        if position >= self._first and (found := self._find(tokens, position)) is not None:
            place, same = found
            kind = _kind(same)
            if self._tried[kind] > _MEMORY:
                self._tried[kind] /= 2
                self._right[kind] /= 2
            self._tried[kind] += 1
            self._right[kind] += tokens[place] == tokens[position]
        for count, places in enumerate(self._places, 1):
            if count <= position:
                places[tuple(tokens[position - count : position])] = position

    def _find(self, tokens: Sequence[int], end: int) -> tuple[int, int] | None:
        """Where the text went on the last time, and how many tokens before it are the same."""
        for count in range(min(_LONGEST, end), 0, -1):
            place = self._places[count - 1].get(tuple(tokens[end - count : end]))
            if place is not None:
                while count < min(_COMPARED, place) and tokens[place - count - 1] == tokens[end - count - 1]:
                    count += 1
                return place, count
        return None

    def _chance(self, same: int) -> float:
        kind = _kind(same)
        return self._right[kind] / self._tried[kind]


def _kind(same: int) -> int:
    """1: 0; 2 and 3: 1; 4 to 7: 2; and so on."""
    return min(same.bit_length(), len(_PRIOR)) - 1
