"""Computes answers: as many at a time as a decoder has sequences, each at its own place in its own text."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from threading import RLock
from time import monotonic
from typing import Any

from tailrace.spec.errors import ConfigError, LimitError, TailraceError
from tailrace.spec.isa import ADDRESS_UNIT

from ..device.decoder import Decoder
from ..device.driver import Digest
from ..device.token_ids import token_list
from ..gguf.describe import ImportedModel
from ..image.programs import Kind
from ..text.grammar import Grammars
from ..text.tokenizer import Tokenizer
from .answer import Answer, Wish
from .completion import Piece
from .depth import Costs, share
from .draft import DraftModel
from .drafting import Drafting
from .options import Prompt
from .own_draft import OwnDraft
from .sequences import Holder, Sequences
from .upkeep import Upkeep, bearers


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
    speculate : bool
        Whether drafts are verified at all.
    costs : Costs
        What passes take, by their rows: it says how many drafts pay.
    drafting : Drafting or None
        When a draft model is asked, if there is one: to begin with a layer of the model that drafts, if it has such.
    digest : Digest or None
        Told of every result from which a token of an answer was chosen: logits, or the token, filled up to 64 bytes.
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, release: Callable[[], None] | None = None) -> None:
        self.decoder, self.tokenizer = decoder, tokenizer
        self.lock, self.sequences, self._grammars = RLock(), Sequences(decoder), Grammars(tokenizer)
        self.speculate = True
        self.digest: Digest | None = None
        self.costs = Costs()
        self.drafting: Drafting | None = None
        self._release, self._is_open = release, True
        if decoder.imported.description.draft_layer and self.speculates:
            self.draft_with(OwnDraft(decoder))

    @property
    def imported(self) -> ImportedModel:
        """The model's file, as it is on the device."""
        imported = self.decoder.imported
        assert isinstance(imported, ImportedModel)
        return imported

    @property
    def speculates(self) -> bool:
        """Whether drafts can be verified: a pass has rows for them, and the device does not go on by itself."""
        return self.speculate and self.decoder.programs.most_rows > 1 and self.decoder.tokens_per_doorbell == 1

    def draft_with(self, model: DraftModel) -> Drafting:
        """Let a model draft, whose tokens are this one's.

        Returns
        -------
        Drafting
            When it is asked, from nothing known on.

        Raises
        ------
        ConfigError
            If no draft could be verified.
        """
        if self.decoder.tokens_per_doorbell > 1:
            raise ConfigError(
                "drafts are verified by the host, and with tokens_per_doorbell the device goes on by itself: leave it out, or"
                " the draft model"
            )
        if self.decoder.programs.most_rows == 1:
            raise ConfigError(
                "drafts are verified in the rows that a pass has left, and this build has one: choose one with more"
                " right-hand sides (config='auto,right_hand_sides=4'), or leave the draft model out"
            )
        part = model.weight_bytes / self.decoder.image.token_bytes
        self.drafting = Drafting(model, self.decoder.imported.description.vocabulary, part)
        if isinstance(model, OwnDraft):
            more = self.decoder.image.filling_bytes
            self.drafting.upkeep = Upkeep(more / (self.decoder.image.token_bytes - more))
        return self.drafting

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
        prediction = self.tokens(wish.prediction, at_start=False) if wish.prediction else ()
        return Answer(index, tokens, wish, holder, self.tokenizer, limit, grammar, prediction)

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
        """Take the next tokens of each answer, or of its prompt.

        The rows that a pass over the weights has left take more tokens of prompts; then drafts of what may come next, where the
        text said the same before, or as a draft model has it, as many as pay. Whatever they are, each answer is the one that it
        is without them.

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
        """Take tokens of all answers in one pass over the weights; returns what has become of them."""
        start, before, decoder = monotonic(), self.decoder.counters, self.decoder
        unanswered = {id(answer) for answer in answers if len(answer.tokens) == answer.prompt_tokens}
        placed = self._place(answers)
        rest = {place: answer.tokens[decoder.positions[place] :] for place, answer in placed.items()}
        given, spare = self._share(rest)
        # The last token of a prompt gives the answer's first one.
        asked = {place: answer for place, answer in placed.items() if len(given[place]) == len(rest[place])}
        kind = _kind(placed.values(), asked.values())
        if (
            kind == "tokens"
            and decoder.tokens_per_doorbell > 1
            and len(asked) == decoder.batch == sum(map(len, given.values()))
        ):
            pieces = self._run(given, asked)
        else:
            upkeep = self._upkeep(placed, asked, given)
            drafts, prices = self._drafts(asked, given, spare, upkeep)
            lengths = {place: len(answer.tokens) for place, answer in asked.items()}
            together = {n: [*tokens, *drafts.get(n, ())] for n, tokens in given.items()}
            pieces = self._take(kind, together, placed, drafts, asked, bool(upkeep))
            for place, answer in placed.items():
                if place in asked:
                    answer.budget.note(len(answer.tokens) - lengths[place], prices[place])
                else:
                    answer.budget.note_prompt(upkeep.get(place, 0.0))
        seconds, counters = monotonic() - start, decoder.counters - before
        for answer in answers:
            answer.spend(seconds, counters, id(answer) in unanswered)
        return pieces

    def _place(self, answers: Sequence[Answer]) -> dict[int, Answer]:
        """Give each answer a sequence."""
        placed: dict[int, Answer] = {}
        for answer in answers:
            # What is to be judged has to be computed from its beginning.
            wanted = answer.tokens[:1] if answer.is_scored and answer.reused is None else answer.tokens
            place = self.sequences.place(answer.holder, wanted, tuple(placed))
            placed[place] = answer
            if answer.reused is None:
                answer.reused = self.decoder.positions[place]
        return placed

    def _share(self, rest: Mapping[int, Sequence[int]]) -> tuple[dict[int, list[int]], int]:
        """A row for each sequence, and those that are left for the prompts, the oldest first; returns what is left then."""
        given = {place: list(tokens[:1]) for place, tokens in rest.items()}
        spare = self.decoder.programs.most_together - len(given)
        for place, tokens in rest.items():
            more = tokens[1 : min(spare + 1, self.decoder.together(place))]
            given[place] += more
            spare -= len(more)
        return given, spare

    def _upkeep(
        self, placed: Mapping[int, Answer], asked: Mapping[int, Answer], given: Mapping[int, Sequence[int]]
    ) -> dict[int, float]:
        """What a pass costs each answer, in tokens, for its drafts to come; empty: they are not worth it, or there are none."""
        if self.drafting is None or self.drafting.upkeep is None or not self.speculates:
            return {}
        rows, spare = len(placed), self.decoder.programs.most_together - len(placed)
        wanting = {
            place: answer.budget
            for place, answer in placed.items()
            if answer.wish.speculate and self.drafting.pays(answer, rows, spare, self.costs)
        }
        more = self.drafting.upkeep.factor(sum(map(len, given.values()))) - 1
        return bearers(wanting, placed.keys() - asked.keys(), more * rows)

    def _drafts(
        self, asked: Mapping[int, Answer], given: Mapping[int, Sequence[int]], spare: int, upkeep: Mapping[int, float]
    ) -> tuple[dict[int, tuple[int, ...]], dict[int, float]]:
        """Tokens that may come next, to be verified in the rows that are left; and what a pass costs each answer, in tokens."""
        rows, most = sum(map(len, given.values())), dict[int, int]()
        taken = {place: upkeep.get(place, 0.0) for place in asked}
        for place, answer in asked.items():
            room = min(spare, answer.room - 1, self.decoder.reversible(place) - len(given[place]))
            if self.speculates and answer.wish.speculate and room > 0:
                most[place] = room
        if not most:
            return {}, taken
        found = {place: asked[place].lookup.draft(asked[place].tokens, count) for place, count in most.items()}
        # What rows cost, in tokens as these answers have them now: each takes its part of a pass.
        costs = self.drafting.filling(self.costs) if upkeep and self.drafting else self.costs
        one, plain, spent = self.costs.of(rows) / rows, costs.of(rows), dict[int, float]()
        prices = [max(costs.of(rows + more) - plain, 0.0) / one for more in range(1, spare + 1)]
        if self.drafting is not None:
            left = {place: (asked[place].budget.left - taken[place]) * one for place in most}
            found, spent = self.drafting.add(found, most, left, asked, rows, spare, costs)
            taken |= {place: taken[place] + seconds / one for place, seconds in spent.items()}
        chances = {place: draft.chances for place, draft in found.items()}
        counts, _ = share(chances, rows, spare, costs, sum(spent.values()))
        counts = {n: asked[n].budget.most([taken[n] + price for price in prices[:count]]) for n, count in counts.items()}
        drafts = {place: found[place].tokens[:count] for place, count in counts.items() if count}
        drafted = sum(map(len, drafts.values()))
        each = prices[drafted - 1] / drafted if drafted else 0.0
        return drafts, {place: len(drafts.get(place, ())) * each + price for place, price in taken.items()}

    def _take(
        self, kind: Kind, given: Mapping[int, Sequence[int]], placed: Mapping[int, Answer],
        drafts: Mapping[int, Sequence[int]], asked: Mapping[int, Answer], fills: bool,
    ) -> list[tuple[Answer, Piece]]:  # fmt: skip
        """Take tokens in one pass, and choose what follows; what is wrong of the drafts is taken back.

        `fills`: whether the pass fills the cache of a layer that drafts.
        """
        decoder, sequences, pieces = self.decoder, self.sequences, list[tuple[Answer, Piece]]()
        before, seconds = list(decoder.positions), decoder.seconds
        for place, tokens in given.items():
            sequences.note(place, tokens)
        results = decoder.take([given.get(place) for place in range(decoder.batch)], kind, fills)
        if kind != "prompt":
            rows, seconds = sum(map(len, given.values())), decoder.seconds - seconds
            if self.drafting is not None and self.drafting.upkeep is not None:
                seconds = self.drafting.upkeep.note(rows, seconds, fills)
            self.costs.note(rows, seconds)
        for place, answer in placed.items():
            drafted = drafts.get(place, ())
            first = len(given[place]) - len(drafted) - 1
            if answer.is_scored:
                answer.score(results[place][: first + 1])
            if place not in asked:
                continue
            try:
                accepted = self._choose(answer, results[place][first:], drafted, pieces)
            except Exception as error:  # whatever a processor of one answer does, the others go on
                answer.failure, accepted = error, 0
            if self.drafting is not None:
                self.drafting.learn(place, len(drafted), accepted)
            if drafted:
                answer.drafted += len(drafted)
                answer.accepted += accepted
                sequences.cut(place, before[place] + first + 1 + accepted)
        return pieces

    def _choose(self, answer: Answer, results: Any, drafted: Sequence[int], pieces: list[tuple[Answer, Piece]]) -> int:
        """Choose an answer's next tokens, the second one if the first one is as drafted, and so on; returns how many are."""
        for accepted, result in enumerate(results):
            logits = None if isinstance(result, int) else result
            token = result if logits is None else answer.choose(logits)
            if self.digest is not None:
                self.digest.update(token.to_bytes(ADDRESS_UNIT, "little") if logits is None else logits.tobytes())
            piece = answer.take(token, logits)
            if piece is not None:
                pieces.append((answer, piece))
            if answer.reason is not None or accepted == len(drafted) or token != drafted[accepted]:
                return accepted
        raise AssertionError("the last result has no draft")

    def _run(self, given: Mapping[int, Sequence[int]], asked: Mapping[int, Answer]) -> list[tuple[Answer, Piece]]:
        """Let the device go on by itself for a while."""
        decoder, pieces = self.decoder, list[tuple[Answer, Piece]]()
        count = min(decoder.tokens_per_doorbell, *(answer.room for answer in asked.values()))
        before = list(decoder.positions)
        for place, tokens in given.items():
            self.sequences.note(place, tokens)
        chosen = decoder.run([given[place][0] for place in range(decoder.batch)], count)
        for place, answer in asked.items():
            self.sequences.note_run(place, before[place] + 1, chosen[place][:-1])
            for token in chosen[place]:
                if answer.reason is None:
                    self._choose(answer, [token], (), pieces)
        return pieces


def _kind(answers: Iterable[Answer], asked: Iterable[Answer]) -> Kind:
    """What a pass has to give for these answers, of which some are asked for their next token."""
    wishes = [answer.wish for answer in asked]
    if any(answer.is_scored for answer in answers) or any(wish.needs_logits for wish in wishes):
        return "logits"
    return "tokens" if wishes else "prompt"
