"""Drafts: tokens that may come next; and what a model has to be able to do that drafts for another one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..image.kv_cache import Floats
from ..text.tokenizer import Tokenizer


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


@dataclass(frozen=True)
class Outlook:
    """What a draft model can do for a text as it is.

    Attributes
    ----------
    missing : int
        Tokens that it has to take before it can say what comes next.
    passes : int
        Passes over its weights that these take; the last one says what comes next.
    most : int
        Tokens that it can draft one after the other, and still go back; 0: none, such as where its context ends.
    """

    missing: int = 0
    passes: int = 0
    most: int = 0


@runtime_checkable
class DraftModel(Protocol):
    """A small model that says what may come next in the texts of a large one.

    It is given whole texts, and is to keep what it has computed of them: each time a text is what it was, less the drafts that
    were wrong, and more. A place has one text at a time. Whatever it says, and whether it fails, no answer is another one.
    """

    @property
    def weight_bytes(self) -> int:
        """That a pass reads: how long one takes beside the large model's is guessed by it before it is known; 0: no guess."""

    def check(self, tokenizer: Tokenizer, batch: int) -> None:
        """Refuse a model that this one can't draft for.

        Parameters
        ----------
        tokenizer : Tokenizer
            Of the large model.
        batch : int
            Texts at a time: places are numbers below it.

        Raises
        ------
        ConfigError
            If its tokens are others, or it has no room for so many texts.
        """

    def outlook(self, place: int, tokens: Sequence[int]) -> Outlook:
        """What it can do for a text; nothing is computed for this."""

    def logits(self, texts: Mapping[int, Sequence[int]]) -> Mapping[int, Floats]:
        """Logits of what comes next in texts, by their places; for each an ndarray of shape (vocabulary,)."""
