"""Sampling: from logits to the next token. The order of the steps is that of transformers."""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ConfigError, TailraceError

from ..image.kv_cache import Floats

#: What a caller may do to the logits, on their way to the sampler: takes all tokens so far, shape (tokens,), and the logits of
#: the next one, shape (vocabulary,), which it may change; returns logits.
LogitsProcessor = Callable[[NDArray[np.int64], Floats], Floats]

#: Temperatures other than 0 lie between these: the quotients of logits stay numbers.
_COLDEST, _HOTTEST = 1e-6, 1e6
_LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True)
class Sampler:
    """How the next token is chosen.

    Logits pass these steps, in this order: bias, penalties, the caller's own processors if there are any, temperature, `top_k`,
    `top_p`, `min_p`. Then a token is drawn with a random number that depends on the seed and on the token's position in the
    text, and on nothing else.

    Parameters
    ----------
    temperature : float or None
        What logits are divided by. None and 0: no draw, the best token is taken.
    top_k : int
        The likeliest tokens, so many of them, and those as likely as the last one; 0: all.
    top_p : float
        The fewest likeliest tokens whose probabilities together reach this; 1: all.
    min_p : float
        Tokens at least so many times as likely as the likeliest one; 0: all.
    repetition_penalty : float
        Logits of tokens that occurred, in prompt or answer, are divided by this if they are positive, else multiplied.
    presence_penalty : float
        Subtracted from the logits of tokens that the answer has.
    frequency_penalty : float
        Subtracted from the logits of tokens as many times as the answer has them.
    logit_bias : mapping of int to float
        Added to the logits of these tokens; -inf bans one.
    seed : int or None
        None: another one each time. The attribute says which, if tokens are drawn.

    Raises
    ------
    ConfigError
        If a number is out of range, or `top_k`, `top_p` or `min_p` are given without a temperature.
    """

    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None:
            fits = _lies(self.temperature, 0, _HOTTEST) and (self.temperature == 0 or self.temperature >= _COLDEST)
            _check("temperature", self.temperature, fits, f"0, for the best token, or from {_COLDEST:g} to {_HOTTEST:g}")
        _check("top_k", self.top_k, _is_whole(self.top_k) and self.top_k >= 0, "a whole number of 0, for all, or more")
        _check("top_p", self.top_p, _lies(self.top_p, 0, 1) and self.top_p > 0, "above 0 and at most 1")
        _check("min_p", self.min_p, _lies(self.min_p, 0, 1), "from 0 to 1")
        _check(
            "repetition_penalty",
            self.repetition_penalty,
            _lies(self.repetition_penalty, _COLDEST, _HOTTEST),
            f"from {_COLDEST:g} to {_HOTTEST:g}",
        )
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _check(name, value, _lies(value, -_HOTTEST, _HOTTEST), f"from {-_HOTTEST:g} to {_HOTTEST:g}")
        if self.logit_bias is not None:
            _check("logit_bias", self.logit_bias, isinstance(self.logit_bias, Mapping), "a mapping of tokens to numbers")
        for token, bias in (self.logit_bias or {}).items():
            _check("a token of logit_bias", token, _is_whole(token) and token >= 0, "a whole number of 0 or more")
            fits = _lies(bias, -_HOTTEST, _HOTTEST) or bias == -math.inf
            _check(f"logit_bias of token {token}", bias, fits, f"-inf, or from {-_HOTTEST:g} to {_HOTTEST:g}")
        if self.seed is not None:
            fits = _is_whole(self.seed) and 0 <= self.seed <= _LARGEST_SEED
            _check("seed", self.seed, fits, f"a whole number from 0 to {_LARGEST_SEED}")
        if self.temperature is None:
            for name, neutral in (("top_k", 0), ("top_p", 1), ("min_p", 0)):
                if getattr(self, name) != neutral:
                    raise ConfigError(
                        f"{name} chooses what is drawn from, and nothing is drawn without a temperature: give one"
                    )
        if self.draws and self.seed is None:
            object.__setattr__(self, "seed", secrets.randbits(32))

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn; else the best one is taken."""
        return bool(self.temperature)

    @property
    def takes_the_best(self) -> bool:
        """Whether the next token is the one with the largest logit, as the device itself chooses it."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return not self.draws and penalties == (1, 0, 0) and not self.logit_bias

    def adjust(self, logits: Floats, tokens: Sequence[int], answer: int) -> Floats:
        """Add the bias and subtract the penalties.

        Parameters
        ----------
        logits : ndarray of float32, shape (vocabulary,)
            Stay as they are.
        tokens : sequence of int
            All tokens so far.
        answer : int
            How many of them, the last ones, are the answer.

        Returns
        -------
        ndarray of float32, shape (vocabulary,)

        Raises
        ------
        ConfigError
            If the bias is for a token that the model does not have.
        """
        adjusted = logits.copy()
        for token, bias in (self.logit_bias or {}).items():
            if token >= len(adjusted):
                raise ConfigError(f"logit_bias has token {token}, which is not one of the model's {len(adjusted)}")
            adjusted[token] += np.float32(bias)
        if self.repetition_penalty != 1:
            there, penalty = np.unique(np.asarray(tokens, np.int64)), np.float32(self.repetition_penalty)
            found = adjusted[there]
            adjusted[there] = np.where(found < 0, found * penalty, found / penalty)
        if (self.presence_penalty or self.frequency_penalty) and answer:
            there, times = np.unique(np.asarray(tokens[-answer:], np.int64), return_counts=True)
            adjusted[there] -= (self.frequency_penalty * times + self.presence_penalty).astype(np.float32)
        return adjusted

    def distribution(self, logits: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The tokens that may be drawn, ascending, and their probabilities."""
        best = _best(logits)
        assert self.temperature, "nothing is drawn"
        # From the best one down, so that nothing overflows.
        scaled = (logits.astype(np.float64) - np.float64(logits[best])) / self.temperature
        kept = np.arange(len(logits))
        if 0 < self.top_k < len(kept):
            kept = np.flatnonzero(scaled >= np.partition(scaled, -self.top_k)[-self.top_k])
        weights = np.exp(scaled[kept])
        if self.top_p < 1:
            order = np.argsort(-weights, kind="stable")
            total = np.cumsum(weights[order])
            chosen = np.sort(order[: int(np.searchsorted(total, self.top_p * total[-1])) + 1])
            kept, weights = kept[chosen], weights[chosen]
        enough = weights >= self.min_p
        kept, weights = kept[enough], weights[enough]
        return kept, weights / weights.sum()

    def choose(self, logits: Floats, position: int) -> int:
        """The next token.

        Parameters
        ----------
        logits : ndarray of float32, shape (vocabulary,)
            Adjusted.
        position : int
            The token's position in the text, counted from 0.

        Raises
        ------
        TailraceError
            If a logit is not a number, or all tokens are banned.
        """
        if not self.draws:
            return _best(logits)
        kept, probabilities = self.distribution(logits)
        number = np.random.Generator(np.random.Philox(key=self.seed, counter=position)).random()
        total = np.cumsum(probabilities)
        return int(kept[min(int(np.searchsorted(total, number * total[-1], side="right")), len(kept) - 1)])


def process(processors: Sequence[LogitsProcessor], tokens: Sequence[int], logits: Floats) -> Floats:
    """Let a caller's processors change the logits.

    Raises
    ------
    TailraceError
        If one of them returns something else.
    """
    for processor in processors:
        result: Any = processor(np.asarray(tokens, np.int64), logits)
        try:
            found = np.asarray(result)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TailraceError(f"a logits processor must return logits of shape {logits.shape}: {error}") from error
        if found.shape != logits.shape or found.dtype.kind not in "fiu":
            what = "nothing" if result is None else f"{found.dtype} of shape {found.shape}"
            raise TailraceError(f"a logits processor must return logits of shape {logits.shape}, and it returned {what}")
        logits = found.astype(np.float32)
    return logits


def log_probabilities(logits: Floats) -> NDArray[np.float64]:
    """Logarithms of the probabilities that logits stand for."""
    shifted = logits.astype(np.float64) - float(logits.max())
    return shifted - math.log(np.exp(shifted).sum())


def _best(logits: Floats) -> int:
    best = int(np.argmax(logits))
    if not np.isfinite(logits[best]):
        raise TailraceError(
            "no token can be chosen: a logit is not a number, or all tokens are banned. Check the logits processors and the"
            " bias"
        )
    return best


def _check(name: str, value: object, fits: bool, wanted: str) -> None:
    if not fits:
        raise ConfigError(f"{name} must be {wanted}, not {value}")


def _lies(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(low <= value <= high)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
