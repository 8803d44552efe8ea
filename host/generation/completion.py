"""What a language model answers: whole, or piece by piece."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import GEN_CLOSED, GEN_RUNNING, getgeneratorstate
from types import TracebackType
from typing import Literal, Self

from tailrace.spec.errors import TailraceError

from ..device.counters import Counters

#: Why an answer ended: with an end token or a stop string; because it has `max_tokens`; because the context is full; or because
#: its stream was closed.
FinishReason = Literal["stop", "length", "context", "closed"]


@dataclass(frozen=True)
class TokenLogprob:
    """A token, and how likely the model thought it, before sampling changed anything.

    Attributes
    ----------
    token : int
    text : str
    logprob : float
        Natural logarithm of its probability.
    """

    token: int
    text: str
    logprob: float


@dataclass(frozen=True)
class ChosenLogprob(TokenLogprob):
    """A token of an answer, with the likeliest ones in its place.

    Attributes
    ----------
    top : tuple of TokenLogprob
        The likeliest first; the chosen one may be among them.
    """

    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Completion:
    """An answer. ``str()`` is its text.

    Attributes
    ----------
    text : str
        Without the stop string or end token that ended it.
    tokens : tuple of int
        Without an end token; with those that a stop string lies in.
    finish_reason : FinishReason
    prompt_tokens : int
        Tokens of the prompt.
    reused_tokens : int
        How many of them the device already held, so that they were not computed again.
    seed : int or None
        What the tokens were drawn with: the same seed gives the same answer again. None: nothing was drawn.
    logprobs : tuple of ChosenLogprob or None
        For each token, if they were asked for.
    prompt_logprobs : tuple of (ChosenLogprob or None) or None
        For each token of the prompt, if they were asked for; None for the first one, before which there is nothing.
    seconds : float
        Time that its steps took.
    counters : Counters
        Of its steps. A step that several prompts shared is in those of each.
    drafted_tokens, accepted_tokens : int
        Tokens that were drafted and verified together with others, and how many of them were right: so many fewer steps.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    reused_tokens: int
    seed: int | None
    logprobs: tuple[ChosenLogprob, ...] | None
    prompt_logprobs: tuple[ChosenLogprob | None, ...] | None
    seconds: float
    counters: Counters = field(repr=False)
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Piece:
    """The next part of an answer.

    Attributes
    ----------
    text : str
        Whole characters; empty at most in the last piece of an answer.
    tokens : tuple of int
        Those since the last piece.
    logprobs : tuple of ChosenLogprob or None
        For each of these, if they were asked for.
    finish_reason : FinishReason or None
        None: more follows.
    index : int
        Which of several prompts it answers.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[ChosenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None
    index: int = 0


class Stream(Iterator[Piece]):
    """An answer, or several, as they are computed: each piece is computed when it is asked for.

    Whoever leaves early closes the stream, or lets go of it; the model is free for the next one in any case. It is a context
    manager.
    """

    def __init__(self, pieces: Generator[Piece, None, None], completions: Callable[[], list[Completion]], is_one: bool) -> None:
        self._pieces, self._completions, self._is_one = pieces, completions, is_one

    def __next__(self) -> Piece:
        try:
            return next(self._pieces)
        except ValueError as error:
            raise self._reason(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it here. Closing twice is harmless."""
        try:
            self._pieces.close()
        except ValueError as error:
            raise self._reason(error) from None

    def read_all(self) -> None:
        """Compute all of it."""
        try:
            deque(self, maxlen=0)
        except BaseException as error:
            # Ctrl-C between two pieces: what computes them is to know of it, as of one within.
            with suppress(type(error)):
                self._pieces.throw(error)
            raise

    def _reason(self, error: ValueError) -> Exception:
        """Why the next piece did not come: Python's generators say it of themselves that they run already."""
        if getgeneratorstate(self._pieces) != GEN_RUNNING:
            return error
        return TailraceError("the stream is being read at this moment: read it in one thread, and not from within itself")

    @property
    def results(self) -> list[Completion]:
        """The answers, in the order of the prompts.

        Raises
        ------
        TailraceError
            If the stream has not ended and was not closed.
        """
        if getgeneratorstate(self._pieces) != GEN_CLOSED:
            raise TailraceError("the stream has not ended: read all its pieces, or close it, then ask for the result")
        return self._completions()

    @property
    def result(self) -> Completion:
        """The answer; of several prompts see `results`."""
        if not self._is_one:
            raise TailraceError("the stream answers several prompts: ask for its results")
        return self.results[0]
