"""Byte-pair encoding, as in GPT-2: text is cut into pieces, and in each merge the pairs that training found first.

Source: Sennrich, Haddow and Birch, 2016; Radford et al., 2019 (bytes). Where a table contradicts itself, this does as llama.cpp
does, but loses no text: a pair whose joined text is no token is spelled with the tokens of its characters.
"""

from collections.abc import Mapping, Sequence

from .cuts import Cut
from .merging import merge
from .sentencepiece import SPACE

#: Pieces whose tokens are remembered.
_REMEMBERED = 1 << 16


def _alphabet() -> list[str]:
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


#: What stands for each byte in the texts of tokens.
ALPHABET = _alphabet()
BYTE_OF = {character: byte for byte, character in enumerate(ALPHABET)}


class BytePairs:
    """A vocabulary with merges, ready to encode text that holds no control tokens.

    Parameters
    ----------
    ids : mapping of str to int
        Tokens by their texts.
    merges : sequence of str
        Pairs, with a space between, the first to merge first.
    cut : Cut
        How text is cut before.

    Attributes
    ----------
    lost : set of str
        What text had and the vocabulary has not: it is left out, as in llama.cpp and transformers.
    """

    def __init__(self, ids: Mapping[str, int], merges: Sequence[str], cut: Cut) -> None:
        self._ids, self._cut = ids, cut
        # No part has a space: that is another character in the byte alphabet, and U+2581 without it. Of equal merges the first
        # counts.
        self._ranks = {pair: rank for rank, pair in zip(range(len(merges) - 1, -1, -1), reversed(merges))}
        self.lost: set[str] = set()
        self._known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Tokens of a text."""
        if not self._cut.bytes:
            text = text.replace(" ", SPACE)
        result: list[int] = []
        for piece in self._cut.pieces(text):
            if (tokens := self._known.get(piece)) is None:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                tokens = self._known[piece] = self._tokens_of(piece)
            result += tokens
        return result

    def _tokens_of(self, piece: str) -> list[int]:
        text = "".join(ALPHABET[byte] for byte in piece.encode()) if self._cut.bytes else piece
        if (self._cut.whole_first or (not self._cut.bytes and not piece.strip("\n"))) and text in self._ids:
            return [self._ids[text]]
        parts = merge(list(text), lambda left, right: self._ranks.get(f"{left} {right}"))
        return [token for part in parts for token in self._spelled(part)]

    def _spelled(self, part: str) -> list[int]:
        if part in self._ids:
            return [self._ids[part]]
        if self._cut.bytes:
            names = list(part)
        else:
            names = [f"<0x{byte:02X}>" for byte in part.encode()]
        self.lost.update(name if name not in BYTE_OF else f"<0x{BYTE_OF[name]:02X}>" for name in names if name not in self._ids)
        return [self._ids[name] for name in names if name in self._ids]
