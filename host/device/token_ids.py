"""Tokens as callers have them: integers of Python and numpy, lists, arrays and tensors."""

from collections.abc import Sequence
from operator import index
from typing import Any, Protocol

import numpy as np

from tailrace.spec.errors import TailraceError

from ..gguf.printable import shown

#: One token. An array without dimensions is one, too.
Token = int | np.integer[Any]


class TokenArray(Protocol):
    """An array of numpy or a tensor of PyTorch, of whole numbers."""

    def tolist(self) -> Any:
        """Its numbers as Python's, in nested lists."""
        ...


#: Tokens of one sequence, or of each.
Tokens = TokenArray | Sequence[Token] | Sequence[Sequence[Token]] | Sequence[TokenArray]


def is_one(tokens: Any) -> bool:
    """Whether this is one token, not a list of them."""
    return not isinstance(tokens, Sequence) and not _dimensions(tokens)


def token_list(tokens: Any) -> list[Any]:
    """Tokens as lists of Python's integers; one alone as a list of one. None stays.

    Raises
    ------
    TailraceError
        If something else is among them.
    """
    plain = tokens.tolist() if hasattr(tokens, "tolist") else tokens
    if isinstance(plain, str | bytes):
        raise TailraceError("tokens are whole numbers, and this is text: encode it with the model's tokenizer")
    if not isinstance(plain, Sequence):
        return [_whole(plain)]
    return [token_list(t) if isinstance(t, Sequence) or _dimensions(t) else _whole(t) for t in plain]


def _dimensions(tokens: Any) -> int:
    return int(getattr(tokens, "ndim", 0))


def _whole(token: Any) -> int | None:
    if token is None:
        return None
    try:
        # A mask is no list of tokens.
        if not isinstance(token, bool):
            return index(token)
    except TypeError:
        pass
    raise TailraceError(f"a token is a whole number, not {shown(token)}")
