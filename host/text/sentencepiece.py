"""Tokens of SentencePiece vocabularies with scores, as Llama 2, Mistral and Gemma have: the best neighbours are merged first.

The vocabulary alone decides: two neighbours merge if their texts together are a token. Source: Kudo and Richardson, 2018; the
order of merges is that of llama.cpp.
"""

import re
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

#: What stands for a space.
SPACE = "\u2581"


class SentencePiece:
    """A vocabulary, ready to encode and decode.

    Parameters
    ----------
    tokens : sequence of str
    scores : sequence of float
    bytes_of : mapping of int to int
        Tokens that stand for single bytes, and which.
    whole : sequence of int
        Tokens that are matched in the text before anything is merged (control and user-defined ones).
    space_prefix : bool
        Whether text starts with a space that it does not have.
    unknown : int or None
        Token for what the vocabulary can't express.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        scores: Sequence[float],
        bytes_of: Mapping[int, int],
        whole: Sequence[int],
        space_prefix: bool,
        unknown: int | None,
    ) -> None:
        self._tokens, self._scores, self._space_prefix, self._unknown = tokens, scores, space_prefix, unknown
        self._ids = {text: index for index, text in enumerate(tokens)}
        self._bytes_of = dict(bytes_of)
        self._byte_tokens = {byte: index for index, byte in bytes_of.items()}
        self._whole = {tokens[i]: i for i in whole if tokens[i]}
        longest_first = sorted(self._whole, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None

    def encode(self, text: str, at_start: bool = True) -> list[int]:
        """Tokens of a text; `at_start`: it does not go on from another one."""
        result: list[int] = []
        prefix = self._space_prefix and at_start
        for piece in self._split.split(text) if self._split else [text]:
            if piece in self._whole:
                result.append(self._whole[piece])
                prefix = self._space_prefix
            elif piece:
                result += self._merge((" " if prefix else "") + piece)
                prefix = False
        return result

    def _merge(self, text: str) -> list[int]:
        parts: list[str] = list(text.replace(" ", SPACE))
        after = [*range(1, len(parts)), -1]
        before = list(range(-1, len(parts) - 1))
        # Best score first, then leftmost. An entry is stale once one of its parts has changed.
        queue: list[tuple[float, int, int, str]] = []

        def candidate(left: int) -> tuple[float, int, int, str] | None:
            right = after[left] if left >= 0 else -1
            if right < 0:
                return None
            index = self._ids.get(joined := parts[left] + parts[right])
            return None if index is None else (-self._scores[index], left, right, joined)

        queue = [c for i in range(len(parts)) if (c := candidate(i)) is not None]
        heapify(queue)
        while queue:
            _, left, right, joined = heappop(queue)
            if after[left] != right or not parts[left] or parts[left] + parts[right] != joined:
                continue
            parts[left], parts[right] = joined, ""
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            for neighbour in (before[left], left):
                if (c := candidate(neighbour)) is not None:
                    heappush(queue, c)
        return [token for part in parts if part for token in self._tokens_of(part)]

    def _tokens_of(self, part: str) -> list[int]:
        if part in self._ids:
            return [self._ids[part]]
        data = part.replace(SPACE, " ").encode()
        if all(byte in self._byte_tokens for byte in data):
            return [self._byte_tokens[byte] for byte in data]
        return [] if self._unknown is None else [self._unknown]

    def decode(self, ids: Sequence[int], at_start: bool = True) -> str:
        """Text of tokens; `at_start`: a leading space is the one that `encode` has put there."""
        data = b"".join(
            bytes([self._bytes_of[i]]) if i in self._bytes_of else self._tokens[i].replace(SPACE, " ").encode() for i in ids
        )
        text = data.decode(errors="replace")
        return text.removeprefix(" ") if at_start and self._space_prefix else text
