"""Drafts of an answer's next tokens: what followed the last time that the text said the same.

Prompt lookup: A. Saxena, "Prompt Lookup Decoding", 2023 (github.com/apoorvumang/prompt-lookup-decoding); the same idea for
whatever the text has is N. Yang et al., "Inference with Reference", 2023 (arXiv:2304.04487).
"""

from collections.abc import Sequence

from .draft import Draft
from .hits import Hits

#: Tokens by which a place in the text is found, at most.
_LONGEST = 4
#: Tokens that are compared beyond these: more of them say no more of what follows.
_COMPARED = 16
#: How likely the next token is what followed then, before anything is known of the text: for 1, 2 to 3, 4 to 7, 8 to 15, and 16
#: or more tokens that both places have before it.
_PRIOR = (0.15, 0.4, 0.6, 0.75, 0.9)


class Lookup:
    """Finds the last place where a text said what it says at its end, and knows how often that was of use.

    Parameters
    ----------
    first : int
        Tokens of the text that were given: of those nothing is learnt about how it goes on.
    before : sequence of int
        Another text, such as what the answer is likely to be; it is searched, too.
    """

    def __init__(self, first: int = 0, before: Sequence[int] = ()) -> None:
        self._text, self._before, self._known = list(before), len(before), 0
        self._first = self._before + first
        # For 1, 2, ... tokens: where the text went on, the last time that it had these.
        self._places: list[dict[tuple[int, ...], int]] = [{} for _ in range(_LONGEST)]
        self._hits = Hits(_PRIOR)

    def draft(self, tokens: Sequence[int], most: int) -> Draft:
        """What may come next.

        Parameters
        ----------
        tokens : sequence of int
            The text: that of the call before, and what has been added.
        most : int
            Tokens that are wanted.
        """
        text = self._text
        text += tokens[len(text) - self._before :]
        for position in range(self._known, len(text)):
            self._learn(position)
        self._known = len(text)
        found = self._find(len(text))
        if found is None or most < 1:
            return Draft()
        place, same = found
        drafted = text[place : place + most]
        while len(drafted) < most:
            # The text repeats itself, and goes on to do so.
            drafted.append(drafted[len(drafted) - (len(text) - place)])
        return Draft(tuple(drafted), tuple(self._hits.chance(_kind(same + n)) for n in range(most)))

    def _learn(self, position: int) -> None:
        """Note what the text has at a position, and whether that could have been known."""
        text = self._text
        if position >= self._first and (found := self._find(position)) is not None:
            place, same = found
            self._hits.note(_kind(same), text[place] == text[position])
        for count, places in enumerate(self._places, 1):
            if count <= position:
                places[tuple(text[position - count : position])] = position

    def _find(self, end: int) -> tuple[int, int] | None:
        """Where the text went on the last time, and how many tokens before it are the same."""
        text = self._text
        for count in range(min(_LONGEST, end), 0, -1):
            place = self._places[count - 1].get(tuple(text[end - count : end]))
            if place is not None:
                while count < min(_COMPARED, place) and text[place - count - 1] == text[end - count - 1]:
                    count += 1
                return place, count
        return None


def _kind(same: int) -> int:
    """1: 0; 2 and 3: 1; 4 to 7: 2; and so on."""
    return min(same.bit_length(), len(_PRIOR)) - 1
