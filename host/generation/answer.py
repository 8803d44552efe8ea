"""An answer in the making: takes token after token, and knows when it is finished."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailrace.spec.errors import ConfigError

from ..device.counters import Counters
from ..image.kv_cache import Floats
from ..text.grammar import Grammar, GrammarState
from ..text.stop_strings import StopStrings
from ..text.tokenizer import Tokenizer
from .budget import Budget
from .completion import ChosenLogprob, Completion, FinishReason, Piece, TokenLogprob
from .lookup import Lookup
from .sampling import LogitsProcessor, Sampler, log_probabilities, process
from .sequences import Holder


@dataclass(frozen=True)
class Wish:
    """How an answer is to be made.

    Attributes
    ----------
    sampler : Sampler
    max_tokens : int or None
        None: until it ends by itself, or the context is full.
    stop : tuple of str
    logprobs : int or None
        How many of the likeliest tokens to report at each place; None: nothing.
    processors : tuple of LogitsProcessor
    prompt_logprobs : int or None
        The same for the tokens of the prompt, none of which is reused then; None: nothing.
    grammar : Grammar or None
        What the answer may be; None: anything.
    min_tokens : int
        No token ends the answer before it has so many.
    ignore_ends : bool
        No token ends the answer at all; it says nothing, and the answer goes on.
    shown : frozenset of int
        Control tokens whose names are part of the text.
    speculate : bool
        Whether tokens that are likely to come may be verified together. The answer is the same.
    prediction : str, or tuple of int
        What the answer is likely to be, or to have in it: such tokens are drafted. The answer is the same.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    sampler: Sampler
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    processors: tuple[LogitsProcessor, ...] = ()
    prompt_logprobs: int | None = None
    grammar: Grammar | None = None
    min_tokens: int = 0
    ignore_ends: bool = False
    shown: frozenset[int] = frozenset()
    speculate: bool = True
    prediction: str | tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 1), ("logprobs", 0), ("prompt_logprobs", 0), ("min_tokens", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least):
                raise ConfigError(f"{name} must be a whole number of {least} or more, or None, not {value}")
        if not isinstance(self.speculate, bool):
            raise ConfigError(f"speculate must be True or False, not {self.speculate!r}")
        StopStrings(self.stop)
        for processor in self.processors:
            if not callable(processor):
                raise ConfigError(f"a logits processor must be callable, not {processor!r}")
        if self.grammar is not None and not isinstance(self.grammar, Grammar):
            raise ConfigError(f"grammar must be a tailrace.Grammar, or None, not {self.grammar!r}")
        if self.grammar is not None and (self.min_tokens or self.ignore_ends):
            raise ConfigError("a grammar says where an answer ends: leave min_tokens and ignore_ends out")

    @property
    def needs_logits(self) -> bool:
        """Whether the device can't choose the token itself."""
        changed = bool(self.processors) or self.grammar is not None or self.min_tokens > 0
        return not self.sampler.takes_the_best or changed or self.logprobs is not None


class Answer:
    """An answer in the making.

    Parameters
    ----------
    index : int
        Which of several prompts it answers.
    prompt : sequence of int
    wish : Wish
    holder : Holder
        Whose sequence of the device it uses.
    tokenizer : Tokenizer
    limit : int
        Tokens that a sequence has room for.
    grammar : GrammarState or None
        Where its grammar begins, if it has one.
    prediction : sequence of int
        What it is likely to be.

    Attributes
    ----------
    tokens : list of int
        Prompt and answer.
    reason : FinishReason or None
        Why it is finished; None: it is not.
    failure : Exception or None
        Why its next token could not be chosen: it is not to go on.
    reused : int or None
        Tokens of the prompt that were there already; None: not known yet.
    seconds : float
    prompt_seconds : float
        Those until its first token was there.
    counters : Counters
    lookup : Lookup
        Drafts from its own text.
    budget : Budget
        What drafts may cost.
    drafted, accepted : int
        Tokens that were drafted and verified, and how many of them were right.
    """

    def __init__(
        self,
        index: int,
        prompt: Sequence[int],
        wish: Wish,
        holder: Holder,
        tokenizer: Tokenizer,
        limit: int,
        grammar: GrammarState | None = None,
        prediction: Sequence[int] = (),
    ) -> None:
        self.index, self.wish, self.holder = index, wish, holder
        self.tokens = list(prompt)
        self.reason: FinishReason | None = None
        self.failure: Exception | None = None
        self.reused: int | None = None
        self.seconds, self.prompt_seconds, self.counters = 0.0, 0.0, Counters()
        self._prompt, self._limit, self._tokenizer = len(prompt), limit, tokenizer
        self._grammar = grammar
        self.lookup, self.budget, self.drafted, self.accepted = Lookup(len(prompt), prediction), Budget(), 0, 0
        self._said: list[str] = []
        self._stream, self._stop = tokenizer.stream(self._said.append, wish.shown), StopStrings(wish.stop)
        self._text: list[str] = []
        self._logprobs: list[ChosenLogprob] = []
        self._prompt_logprobs: list[ChosenLogprob] = []
        # Tokens that no piece has brought yet.
        self._new = 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self._prompt

    @property
    def room(self) -> int:
        """Tokens that may still be chosen before it ends, at most."""
        left = self._limit + 1 - len(self.tokens)
        most = self.wish.max_tokens
        return left if most is None else min(left, most - len(self.tokens) + self._prompt)

    @property
    def is_scored(self) -> bool:
        """Whether tokens of the prompt are still to be judged: the logits before each of them are wanted."""
        return self.wish.prompt_logprobs is not None and len(self._prompt_logprobs) < self._prompt - 1

    def spend(self, seconds: float, counters: Counters, is_prompt: bool) -> None:
        """Note what a step has taken; `is_prompt`: it began before the first token was there."""
        self.seconds += seconds
        self.prompt_seconds += seconds if is_prompt else 0.0
        self.counters += counters

    def score(self, logits: Floats) -> None:
        """Judge the next tokens of the prompt.

        Parameters
        ----------
        logits : ndarray of float32, shape (tokens, vocabulary)
            As the device gave them after the tokens before these; those after the last token of the prompt judge nothing.
        """
        assert self.wish.prompt_logprobs is not None
        for row in logits:
            if self.is_scored:
                token = self.tokens[len(self._prompt_logprobs) + 1]
                self._prompt_logprobs.append(self._logprob(token, row, self.wish.prompt_logprobs))

    def choose(self, logits: Floats) -> int:
        """The next token for logits of shape (vocabulary,)."""
        wish, answer = self.wish, len(self.tokens) - self._prompt
        adjusted = wish.sampler.adjust(logits, self.tokens, answer)
        adjusted = process(wish.processors, self.tokens, adjusted)
        if self._grammar is not None:
            adjusted = self._grammar.mask(adjusted)
        if answer < wish.min_tokens:
            adjusted = adjusted.copy()
            adjusted[sorted(self._tokenizer.ends)] = -np.inf
        return wish.sampler.choose(adjusted, len(self.tokens))

    def propose(self, logits: Floats, drafted: Sequence[int]) -> tuple[int, float] | None:
        """A draft of the next token, by a draft model: chosen as the answer's own tokens are, with the same random number.

        Parameters
        ----------
        logits : ndarray of float32, shape (vocabulary,)
            The draft model's.
        drafted : sequence of int
            What is drafted of the answer already.

        Returns
        -------
        (int, float), or None
            The token, and how likely it is for the draft model. None: the answer would end, which needs no draft.
        """
        sampler, tokens = self.wish.sampler, [*self.tokens, *drafted]
        adjusted = sampler.adjust(logits, tokens, len(tokens) - self._prompt)
        token = sampler.choose(adjusted, len(tokens))
        if token in self._tokenizer.ends and not self.wish.ignore_ends:
            return None
        if sampler.temperature:
            adjusted = adjusted / np.float32(sampler.temperature)
        return token, float(np.exp(log_probabilities(adjusted)[token]))

    def take(self, token: int, logits: Floats | None = None) -> Piece | None:
        """Take the next token; returns what has become of it, if anything has.

        Parameters
        ----------
        token : int
        logits : ndarray of float32, shape (vocabulary,), or None
            As the device gave them, if log probabilities are wanted.
        """
        if token in self._tokenizer.ends and not self.wish.ignore_ends:
            return self.finish("stop")
        self.tokens.append(token)
        self._new += 1
        if self.wish.logprobs is not None and logits is not None:
            self._logprobs.append(self._logprob(token, logits, self.wish.logprobs))
        self._stream.put(token)
        text = self._heard()
        if self._stop.found is not None:
            return self._piece(text, "stop")
        if self._grammar is not None:
            self._grammar.take(token)
            if self._grammar.is_complete:
                return self.finish("stop", text)
        if self.room == 0:
            full = self.wish.max_tokens is None or len(self.tokens) - self._prompt < self.wish.max_tokens
            return self.finish("context" if full else "length", text)
        return self._piece(text, None) if text else None

    def finish(self, reason: FinishReason, text: str = "") -> Piece:
        """End it, with what was held back."""
        self._stream.end()
        text += self._heard() + self._stop.end()
        return self._piece(text, "stop" if self._stop.found is not None else reason)

    def completion(self) -> Completion:
        """The answer, as far as it goes."""
        tokens, logprobs = tuple(self.tokens[self._prompt :]), tuple(self._logprobs)
        return Completion(
            text="".join(self._text),
            tokens=tokens,
            finish_reason=self.reason or "closed",
            prompt_tokens=self._prompt,
            reused_tokens=self.reused or 0,
            seed=self.wish.sampler.seed,
            logprobs=None if self.wish.logprobs is None else logprobs,
            prompt_logprobs=None if self.wish.prompt_logprobs is None else (None, *self._prompt_logprobs),
            seconds=self.seconds,
            counters=self.counters,
            drafted_tokens=self.drafted,
            accepted_tokens=self.accepted,
        )

    def _heard(self) -> str:
        """What the stream of text has handed on since, but for what may be part of a stop string."""
        text = self._stop.put("".join(self._said))
        self._said.clear()
        return text

    def _piece(self, text: str, reason: FinishReason | None) -> Piece:
        self.reason = reason
        self._text.append(text)
        new, self._new = self._new, 0
        logprobs = None if self.wish.logprobs is None else tuple(self._logprobs[len(self._logprobs) - new :])
        return Piece(text, tuple(self.tokens[len(self.tokens) - new :]), logprobs, reason, self.index)

    def _logprob(self, token: int, logits: Floats, count: int) -> ChosenLogprob:
        values = log_probabilities(logits)
        best = np.argsort(-values, kind="stable")[:count]
        top = tuple(TokenLogprob(int(t), self._text_of(int(t)), float(values[t])) for t in best)
        return ChosenLogprob(token, self._text_of(token), float(values[token]), top)

    def _text_of(self, token: int) -> str:
        return self._tokenizer.decode([token], at_start=False)
