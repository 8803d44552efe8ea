"""Computes answers: as many at a time as a decoder has sequences, each at its own place in its own text."""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from threading import RLock
from time import monotonic

from tailrace.spec.errors import LimitError, TailraceError

from ..device.decoder import Decoder
from ..device.token_ids import token_list
from ..gguf.describe import ImportedModel
from ..text.grammar import Grammars
from ..text.tokenizer import Tokenizer
from .answer import Answer, Wish
from .completion import Piece
from .options import Prompt
from .sequences import Holder, Sequences


class Engine:
    """A decoder, the tokens of its model, and who has which of its sequences.

    Parameters
    ----------
    decoder : Decoder
        Its sequences belong to this object.
    tokenizer : Tokenizer
    release : callable or None
        Called when it is closed.

    Attributes
    ----------
    lock : RLock
        Held by whoever works with the device or the sequences.
    sequences : Sequences
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, release: Callable[[], None] | None = None) -> None:
        self.decoder, self.tokenizer = decoder, tokenizer
        self.lock, self.sequences, self._grammars = RLock(), Sequences(decoder), Grammars(tokenizer)
        self._release, self._is_open = release, True

    @property
    def imported(self) -> ImportedModel:
        """The model's file, as it is on the device."""
        imported = self.decoder.imported
        assert isinstance(imported, ImportedModel)
        return imported

    def close(self) -> None:
        """Release the device. Closing twice is harmless."""
        with self.lock:
            if self._is_open and self._release is not None:
                self._release()
            self._is_open = False

    def tokens(self, prompt: Prompt, at_start: bool = True) -> list[int]:
        """Tokens of a prompt; `at_start`: it begins a text.

        Raises
        ------
        TailraceError
            If it is neither a text nor a list of tokens.
        """
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, at_start)
        tokens = token_list(prompt)
        for token in tokens:
            if not isinstance(token, int):
                raise TailraceError(f"a prompt is a text or a list of whole numbers, its tokens, and {token!r} is no token")
        return tokens

    def answer(self, index: int, tokens: Sequence[int], holder: Holder, wish: Wish) -> Answer:
        """An answer that is to be made.

        Raises
        ------
        LimitError
            If the prompt is too long.
        ConfigError
            If its grammar can't be used.
        TailraceError
            If it is empty.
        """
        limit = self.decoder.limit
        if not tokens:
            raise TailraceError("the prompt is empty: it has no tokens")
        if len(tokens) > limit:
            raise LimitError(
                f"the prompt has {len(tokens)} tokens, and the context has room for {limit}: load the model with a larger"
                " context, or shorten the prompt"
            )
        grammar = None if wish.grammar is None else self._grammars.begin(wish.grammar)
        return Answer(index, tokens, wish, holder, self.tokenizer, limit, grammar)

    def pieces(self, answers: Sequence[Answer], keep: bool = False) -> Generator[Piece, None, None]:
        """Compute answers. When one is finished, the next one takes its place.

        Parameters
        ----------
        answers : sequence of Answer
        keep : bool
            Whether their holders keep their sequences.

        Yields
        ------
        Piece
        """
        waiting, active = deque(answers), list[Answer]()
        try:
            while waiting or active:
                with self.lock:
                    while waiting and len(active) < self.decoder.batch:
                        active.append(waiting.popleft())
                    pieces = self.advance(active, keep)
                    for answer in active:
                        if answer.failure is not None:
                            raise answer.failure
                    active = [answer for answer in active if answer.reason is None]
                yield from (piece for _, piece in pieces)
        finally:
            if not keep:
                with self.lock:
                    for answer in active:
                        self.sequences.release(answer.holder)

    def advance(self, answers: Sequence[Answer], keep: bool = False) -> list[tuple[Answer, Piece]]:
        """Take the next token of each answer, or several of their prompts.

        Parameters
        ----------
        answers : sequence of Answer
            At most as many as there are sequences; none of them is finished.
        keep : bool
            Whether the holders of those that finish keep their sequences.

        Returns
        -------
        list of (Answer, Piece)
            What has become of them. Those whose next token can't be chosen have a `failure`, and the others go on.
        """
        with self.lock:
            if not self._is_open:
                raise TailraceError("the language model is closed: load it again")
            pieces = self._pass(answers)
            for answer in answers:
                if answer.reason is not None:
                    self.sequences.settle(answer.holder, answer.tokens)
                    if not keep:
                        self.sequences.release(answer.holder)
            return pieces

    def release(self, answer: Answer) -> None:
        """Let go of an answer that is not finished: its sequence is free."""
        with self.lock:
            self.sequences.release(answer.holder)

    def _pass(self, answers: Sequence[Answer]) -> list[tuple[Answer, Piece]]:
        """Take the next token of each answer, or several of their prompts; returns what has become of them."""
        start, before, decoder, sequences = monotonic(), self.decoder.counters, self.decoder, self.sequences
        placed: dict[int, Answer] = {}
        unanswered = {id(answer) for answer in answers if len(answer.tokens) == answer.prompt_tokens}
        for answer in answers:
            # What is to be judged has to be computed from its beginning.
            wanted = answer.tokens[:1] if answer.is_scored and answer.reused is None else answer.tokens
            place = sequences.place(answer.holder, wanted, tuple(placed))
            placed[place] = answer
            if answer.reused is None:
                answer.reused = decoder.positions[place]
        rest = {place: answer.tokens[decoder.positions[place] :] for place, answer in placed.items()}
        # Every prompt's last token gives the answer's first one.
        common = min(1 if placed[place].is_scored else len(tokens) for place, tokens in rest.items()) - 1
        for place, tokens in rest.items():
            sequences.note(place, tokens[: common or 1])
        pieces: list[tuple[Answer, Piece | None]] = []
        if common:
            decoder.prefill([rest.get(place, [])[:common] for place in range(decoder.batch)])
        else:
            given = [rest[place][0] if place in rest else None for place in range(decoder.batch)]
            asked = {place: answer for place, answer in placed.items() if len(rest[place]) == 1}
            scored = {place: answer for place, answer in placed.items() if answer.is_scored}
            if scored or any(answer.wish.needs_logits for answer in asked.values()):
                pieces = self._choose(given, asked, scored)
            else:
                pieces = self._let_choose(given, asked)
        seconds, counters = monotonic() - start, decoder.counters - before
        for answer in answers:
            answer.spend(seconds, counters, id(answer) in unanswered)
        return [(answer, piece) for answer, piece in pieces if piece is not None]

    def _choose(
        self, given: Sequence[int | None], asked: Mapping[int, Answer], scored: Mapping[int, Answer]
    ) -> list[tuple[Answer, Piece | None]]:
        """Choose the next tokens from the device's logits, and judge those of prompts."""
        logits = self.decoder.step(given)
        for place, answer in scored.items():
            answer.score(logits[place])
        pieces: list[tuple[Answer, Piece | None]] = []
        for place, answer in asked.items():
            try:
                pieces.append((answer, answer.take(answer.choose(logits[place]), logits[place])))
            except Exception as error:  # whatever a processor of one answer does, the others go on
                answer.failure = error
        return pieces

    def _let_choose(self, given: Sequence[int | None], asked: Mapping[int, Answer]) -> list[tuple[Answer, Piece | None]]:
        """Let the device choose the next tokens."""
        decoder, count = self.decoder, 1
        if len(asked) == decoder.batch:
            count = min(decoder.tokens_per_doorbell, *(answer.room for answer in asked.values()))
        before = list(decoder.positions)
        chosen = decoder.run(given, count)
        pieces: list[tuple[Answer, Piece | None]] = []
        for place, answer in asked.items():
            self.sequences.note_run(place, before[place] + 1, chosen[place][:-1])
            pieces += [(answer, answer.take(token)) for token in chosen[place] if answer.reason is None]
        return pieces
