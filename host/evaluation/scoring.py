"""How likely a model thinks given continuations: each distinct text once, as many at a time as a decoder has sequences."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tailrace.spec.errors import LimitError, TailraceError

from ..generation.engine import Engine
from ..generation.sampling import log_probabilities
from ..generation.sequences import Holder
from ..image.kv_cache import Floats

#: Texts that share less than one in so many tokens are judged side by side: that gains more than computing them once.
_LITTLE = 8


@dataclass(frozen=True)
class Text:
    """Tokens, of which those behind a context are to be judged.

    Attributes
    ----------
    tokens : tuple of int
    start : int
        Tokens of the context, at least 1.
    """

    tokens: tuple[int, ...]
    start: int


@dataclass
class Likelihood:
    """What a model thinks of a continuation.

    Attributes
    ----------
    logprob : float
        Natural logarithm of its probability, given the context.
    is_greedy : bool
        Whether each of its tokens is the most probable one in its place.
    judged : int
        Tokens so far.
    """

    logprob: float = 0.0
    is_greedy: bool = True
    judged: int = 0


def score(engine: Engine, texts: Sequence[Text], on_judged: Callable[[int], None] = lambda count: None) -> list[Likelihood]:
    """Judge continuations.

    Those of one context share its sequence of the device, and what they begin with is computed once, unless they share next to
    nothing; what a sequence holds of the next context from the one before stays, too. So the choices of a question cost little
    more than the question, and passages without a context fill all sequences.

    Parameters
    ----------
    engine : Engine
    texts : sequence of Text
    on_judged : callable
        Told, now and then, how many texts have been judged.

    Returns
    -------
    list of Likelihood
        In the order of the texts. They are the same whatever else is judged in the same call, or was before.

    Raises
    ------
    LimitError
        If a text has more tokens than the context and one more, which need not be taken.
    TailraceError
        If a text has no context, or the device's logits are no numbers.
    """
    found = [Likelihood() for _ in texts]
    groups = list[list[int]]()
    for index in sorted(range(len(texts)), key=lambda n: texts[n].tokens):
        text = texts[index]
        if not 1 <= text.start <= len(text.tokens):
            raise TailraceError(f"a context has 1 to {len(text.tokens)} tokens of a text of so many, not {text.start}")
        if len(text.tokens) - 1 > engine.decoder.limit:
            raise LimitError(
                f"a text has {len(text.tokens)} tokens, and the context has room for {engine.decoder.limit} and one more: load"
                " the model with a larger context, or shorten the text"
            )
        if groups and _belong_together(texts[groups[-1][-1]], text):
            groups[-1].append(index)
        else:
            groups.append([index])
    waiting = deque(_Group([texts[n] for n in group], [found[n] for n in group]) for group in groups)
    active: list[_Group] = []
    finished = 0
    try:
        while waiting or active:
            with engine.lock:
                while waiting and len(active) < engine.decoder.batch:
                    active.append(waiting.popleft())
                _advance(engine, active)
                for group in active:
                    if group.is_finished:
                        engine.sequences.release(group.holder)
                        finished += group.count
                active = [group for group in active if not group.is_finished]
            on_judged(finished + sum(group.judged for group in active))
    finally:
        with engine.lock:
            for group in active:
                engine.sequences.release(group.holder)
    return found


class _Group:
    """Texts with the same context, in alphabetical order, and how far they are judged."""

    def __init__(self, texts: Sequence[Text], found: Sequence[Likelihood]) -> None:
        self.holder = Holder()
        self.count = len(texts)
        self._texts, self._found = texts, found
        # Tokens that each text begins with as the next one does.
        self._shared = [_common(one.tokens, two.tokens) for one, two in zip(texts, texts[1:])] + [0]
        self._now = 0
        self._skip()

    @property
    def judged(self) -> int:
        """Texts that are judged."""
        return self._now

    @property
    def is_finished(self) -> bool:
        """Whether all are judged."""
        return self._now == self.count

    @property
    def wanted(self) -> list[int]:
        """The tokens after which the next logits are needed."""
        text, found = self._texts[self._now], self._found[self._now]
        return list(text.tokens[: text.start + found.judged])

    def judge(self, logits: Floats) -> None:
        """Take the logits after `wanted`: for this text, and all others that begin with that."""
        values, best = log_probabilities(logits), int(np.argmax(logits))
        length = len(self.wanted)
        for n in range(self._now, self.count):
            text, found = self._texts[n], self._found[n]
            if length < len(text.tokens):
                token = text.tokens[length]
                if not np.isfinite(values[token]):
                    raise TailraceError(f"the device's logits give token {token} no probability that is a number")
                found.logprob += float(values[token])
                found.is_greedy &= token == best
                found.judged += 1
            if self._shared[n] < length:
                break
        self._skip()

    def _skip(self) -> None:
        while not self.is_finished:
            text, found = self._texts[self._now], self._found[self._now]
            if text.start + found.judged < len(text.tokens):
                return
            self._now += 1


def _belong_together(one: Text, two: Text) -> bool:
    """Whether two texts, neighbours in alphabetical order, are to share a sequence."""
    if one.tokens[: one.start] != two.tokens[: two.start]:
        return False
    return _LITTLE * _common(one.tokens, two.tokens) >= len(two.tokens)


def _advance(engine: Engine, groups: Sequence[_Group]) -> None:
    """Take one more token of each group, or several that need no logits."""
    decoder, sequences = engine.decoder, engine.sequences
    placed: dict[int, _Group] = {}
    for group in groups:
        if not group.is_finished:
            placed[sequences.place(group.holder, group.wanted, tuple(placed))] = group
    if not placed:
        return
    rest = {place: group.wanted[decoder.positions[place] :] for place, group in placed.items()}
    common = min(map(len, rest.values())) - 1
    for place, tokens in rest.items():
        sequences.note(place, tokens[: common or 1])
    if common:
        decoder.prefill([rest.get(place, [])[:common] for place in range(decoder.batch)])
        return
    logits = decoder.step([rest[place][0] if place in rest else None for place in range(decoder.batch)])
    for place, tokens in rest.items():
        if len(tokens) == 1:
            placed[place].judge(logits[place])


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))
