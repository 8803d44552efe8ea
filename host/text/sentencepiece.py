"""Tokens of SentencePiece vocabularies with scores, as Llama 2, Mistral and Gemma have: the best neighbours are merged first.

The vocabulary alone decides: two neighbours merge if their texts together are a token. Source: Kudo and Richardson, 2018; the
order of merges is that of llama.cpp.
"""

from collections.abc import Mapping, Sequence

from tailrace.spec.errors import TailraceError

from .merging import merge

#: What stands for a space.
SPACE = "\u2581"


class SentencePiece:
    """A vocabulary, ready to encode text that holds no control tokens.

    Parameters
    ----------
    ids : mapping of str to int
        Tokens by their texts.
    scores : sequence of float
        By token.
    unknown : int or None
        Token for what the vocabulary can't express.
    """

    def __init__(self, ids: Mapping[str, int], scores: Sequence[float], unknown: int | None) -> None:
        self._ids, self._scores, self._unknown = ids, scores, unknown

    def encode(self, text: str) -> list[int]:
        """Tokens of a text.

        Raises
        ------
        TailraceError
            If the vocabulary can't express it, and has no token that says so.
        """
        return [token for part in merge(list(text.replace(" ", SPACE)), self._order) for token in self._tokens_of(part)]

    def _order(self, left: str, right: str) -> float | None:
        index = self._ids.get(left + right)
        return None if index is None else -self._scores[index]

    def _tokens_of(self, part: str) -> list[int]:
        if part in self._ids:
            return [self._ids[part]]
        tokens = [self._ids.get(f"<0x{byte:02X}>", self._unknown) for byte in part.encode()]
        if None in tokens:
            raise TailraceError(f"the model's vocabulary can't express {part.replace(SPACE, ' ')!r}: leave it out")
        if self._unknown in tokens:
            return [self._unknown] if self._unknown is not None else []
        return [token for token in tokens if token is not None]
