"""When a draft model is asked: where its drafts are worth the time that they take, by what is known of both."""

import logging
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from operator import mul
from time import monotonic
from weakref import WeakKeyDictionary

import numpy as np

from tailrace.spec.errors import TailraceError

from ..image.kv_cache import Floats
from .answer import Answer
from .depth import Costs, share
from .draft import Draft, DraftModel, Outlook
from .hits import Hits
from .upkeep import FillingCosts, Upkeep

#: A draft's kind is how likely it is for the draft model: below the first of these, and so on.
_KINDS = (0.3, 0.5, 0.7, 0.85, 0.95)
#: How likely a draft of each kind is right, and one whose kind is not known, before anything is known of the two models.
_PRIOR, _USUAL = (0.2, 0.35, 0.5, 0.65, 0.75, 0.85), 0.7
#: Passes without a draft model after which the next answer asks again, as if nothing were known: other people, other texts.
_FORGOTTEN = 512
#: Calls that are not measured: programs, or kernels, are made in them.
_WARM = 2

_log = logging.getLogger("tailrace.generation")


class Trust:
    """What is known of a draft model's drafts, of one answer or of all.

    Parameters
    ----------
    before : Trust or None
        What was known before.

    Attributes
    ----------
    by_kind : Hits
        By how likely they were for the draft model.
    usual : float
        How likely its next draft is right, whatever that is.
    """

    def __init__(self, before: "Trust | None" = None) -> None:
        self.by_kind: Hits = Hits(_PRIOR if before is None else before.by_kind.chances())
        self._usual = Hits([_USUAL if before is None else before.usual])

    @property
    def usual(self) -> float:  # noqa: D102
        return self._usual.chance(0)

    def note(self, kind: int, right: float | None) -> None:
        """Note a draft, and whether it was right; None: nobody has looked, and it counts as likely as it was."""
        self._usual.note(0, self.by_kind.chance(kind) if right is None else right)
        if right is not None:
            self.by_kind.note(kind, right)


@dataclass
class _Drafted:
    """What a draft model said in this pass: its tokens' kinds, of whom, and whether they were taken."""

    answer: Answer
    kinds: list[int]
    is_taken: bool


class Drafting:
    """Decides when a draft model is asked, and for how many tokens; and learns what came of it.

    Parameters
    ----------
    model : DraftModel
    vocabulary : int
        Of the large model.
    part : float
        Time of one of its passes, as a part of one of the large model's, until both have been measured.

    Attributes
    ----------
    costs : Costs
        What its passes take, by the texts that share them.
    upkeep : Upkeep or None
        What passes of the large model take more, so that it can go on; None: nothing.
    failure : Exception or None
        Why it is asked no more.
    """

    def __init__(self, model: DraftModel, vocabulary: int, part: float = 0.0) -> None:
        self.model, self.costs = model, Costs()
        self.upkeep: Upkeep | None = None
        self.failure: Exception | None = None
        self._vocabulary, self._part = vocabulary, part
        # Calls so far, and passes of the large model since the last one.
        self._calls, self._idle = 0, 0
        self._general = Trust()
        self._trusts: WeakKeyDictionary[Answer, Trust] = WeakKeyDictionary()
        self._drafted: dict[int, _Drafted] = {}

    def filling(self, costs: Costs) -> Costs:
        """Times of passes of the large model that take more, so that it can go on; `costs`: of those that do not."""
        return costs if self.upkeep is None else FillingCosts(costs, self.upkeep)

    def pays(self, answer: Answer, rows: int, spare: int, costs: Costs) -> bool:
        """Whether drafts for an answer are likely to be worth what passes take more for them, besides what drafts take.

        Parameters
        ----------
        answer : Answer
        rows, spare : int
            Rows that passes have anyway, a token each, and that they can have besides.
        costs : Costs
            Of passes of the large model that take nothing more.
        """
        if self.upkeep is None or self.failure is not None:
            return False
        filling, usual, tokens = self.filling(costs), self._trust(answer).usual, float(rows)
        for more in range(1, spare + 1):
            tokens += usual**more
            if tokens * costs.of(rows) > rows * (filling.of(rows + more) + more * self._step(1, costs)):
                return True
        return False

    def add(
        self, found: Mapping[int, Draft], most: Mapping[int, int], left: Mapping[int, float], answers: Mapping[int, Answer],
        rows: int, spare: int, costs: Costs,
    ) -> tuple[dict[int, Draft], dict[int, float]]:  # fmt: skip
        """Put the draft model's drafts where those from the text are less likely, if that is worth its time.

        Parameters
        ----------
        found : mapping of int to Draft
            From the text of each answer, by its place.
        most : mapping of int to int
            Drafts that each answer can have.
        left : mapping of int to float
            Time that each may lose, as `costs` has it.
        answers : mapping of int to Answer
        rows, spare : int
            Rows that the pass has anyway, and that it can have besides.
        costs : Costs
            Of the large model.

        Returns
        -------
        (dict of int to Draft, dict of int to float)
            The drafts, and the time that those of each answer have taken, as `costs` has it.
        """
        self._drafted.clear()
        self._idle += 1
        # Before passes have been measured, nobody knows what a draft is worth.
        if self.failure is None and costs.are_known:
            try:
                return self._add(found, most, left, answers, rows, spare, costs)
            except Exception as error:  # an answer needs no draft, and is not to be lost for want of one
                _log.warning("the draft model has failed, and answers go on without it: %s", error)
                self.failure = error
        return dict(found), {}

    def learn(self, place: int, verified: int, accepted: int) -> None:
        """Learn what became of a place's drafts: so many were verified, and so many of these were right."""
        if place not in self._drafted:
            return
        drafted = self._drafted.pop(place)
        ended = drafted.answer.reason is not None
        for number, kind in enumerate(drafted.kinds):
            seen = drafted.is_taken and number < verified
            if seen and number >= accepted and (number > accepted or ended):
                # Behind a wrong one, or the end, a draft is neither right nor wrong.
                return
            for trust in (self._trust(drafted.answer), self._general):
                trust.note(kind, float(number < accepted) if seen else None)

    def _trust(self, answer: Answer) -> Trust:
        if answer not in self._trusts:
            if self._idle > _FORGOTTEN:
                self._general, self._idle, self._calls = Trust(), 0, 0
                self.costs.forget()
            self._trusts[answer] = Trust(self._general)
        return self._trusts[answer]

    def _step(self, texts: int, costs: Costs) -> float:
        """Time of one of its passes."""
        return self.costs.of(texts) if self.costs.are_known else self._part * costs.of(texts)

    def _add(
        self, found: Mapping[int, Draft], most: Mapping[int, int], left: Mapping[int, float], answers: Mapping[int, Answer],
        rows: int, spare: int, costs: Costs,
    ) -> tuple[dict[int, Draft], dict[int, float]]:  # fmt: skip
        known, drafts, likely = _Now(costs), dict(found), {place: self._trust(answers[place]).usual for place in most}
        plan = _Plan(found, likely, {}, answers, left, rows, spare, known, lambda texts: self._step(texts, known))
        for place, count in most.items():
            if not found[place].chances or found[place].chances[0] < likely[place]:
                outlook = self.model.outlook(place, answers[place].tokens)
                if outlook.most and plan.is_affordable(place, plan.catching_up(answers[place], outlook) + plan.step(1), 1):
                    plan.outlooks[place] = Outlook(outlook.missing, outlook.passes, min(outlook.most, count))
        asked, rate = plan.best()
        if not asked:
            return drafts, {}
        self._idle = 0
        said, spent = self._ask(asked, plan, rate)
        for place, draft in said.items():
            if is_taken := _gain(draft) > _gain(found[place]):
                drafts[place] = draft
            self._drafted[place].is_taken = is_taken
        return drafts, spent

    def _ask(self, asked: Sequence[int], plan: "_Plan", rate: float) -> tuple[dict[int, Draft], dict[int, float]]:
        """Token after token of each, as long as the next one is likely to be worth its time; and the time they took."""
        said = {place: Draft() for place in asked}
        self._drafted = {place: _Drafted(plan.answers[place], [], False) for place in asked}
        spent = {place: plan.catching_up(plan.answers[place], plan.outlooks[place]) for place in asked}
        going, left = list(asked), plan.spare
        while going and left:
            going = going[:left]
            for place in going:
                spent[place] += plan.step(len(going)) / len(going)
            passes = 1 + sum(plan.outlooks[place].passes - 1 for place in going if not said[place].tokens)
            begun = monotonic()
            logits = self.model.logits({place: [*plan.answers[place].tokens, *said[place].tokens] for place in going})
            for place in list(going):
                answer, draft = plan.answers[place], said[place]
                proposed = self._proposed(answer, logits[place], draft.tokens)
                if proposed is None:
                    going.remove(place)
                    continue
                kind = bisect(_KINDS, proposed[1])
                chance = self._trust(answer).by_kind.chance(kind)
                said[place] = Draft((*draft.tokens, proposed[0]), (*draft.chances, chance))
                self._drafted[place].kinds.append(kind)
                left -= 1
            self._calls += 1
            if self._calls > _WARM:
                self.costs.note(len(logits), (monotonic() - begun) / passes)
            going = [place for place in going if plan.goes_on(place, said[place], spent[place], len(going), left, rate)]
        return said, spent

    def _proposed(self, answer: Answer, logits: Floats, drafted: Sequence[int]) -> tuple[int, float] | None:
        # What the draft model does not have is never drafted, and neither is what it has besides.
        known = np.full(self._vocabulary, -np.inf, np.float32)
        known[: len(logits)] = logits[: self._vocabulary]
        try:
            return answer.propose(known, drafted)
        except TailraceError:
            # What the answer asks for can't be done, which is said when its own token is chosen.
            return None


class _Now(Costs):
    """Times as they are now, each worked out once."""

    def __init__(self, costs: Costs) -> None:
        super().__init__()
        self._times = cache(costs.of)

    def of(self, rows: int) -> float:
        return self._times(rows)


@dataclass(frozen=True)
class _Plan:
    """What is known before a draft model is asked; attributes as in `Drafting.add`, and what its next drafts are worth."""

    found: Mapping[int, Draft]
    usual: Mapping[int, float]
    outlooks: dict[int, Outlook]
    answers: Mapping[int, Answer]
    left: Mapping[int, float]
    rows: int
    spare: int
    costs: Costs
    step: Callable[[int], float]

    def best(self) -> tuple[list[int], float]:
        """Whose drafts to ask for, so that the pass brings the most tokens for its time; and how many these are."""
        order = sorted(self.outlooks, key=lambda place: (self._lag(place), -self.usual[place]))
        asked, rate = list[int](), self._rate((), 0)
        for count in range(1, min(len(order), self.spare) + 1):
            places = order[:count]
            deepest = max(self.outlooks[place].most for place in places)
            for depth in range(1, min(deepest, -(-self.spare // count)) + 1):
                if (found := self._rate(places, depth)) > rate:
                    asked, rate = places, found
        return asked, rate

    def catching_up(self, answer: Answer, outlook: Outlook) -> float:
        """Time to take what has come since the last draft. Of the prompt that is not counted: it is part of the prompt's."""
        missing = min(outlook.missing, len(answer.tokens) - answer.prompt_tokens)
        return (outlook.passes - 1) * self.step(1) * missing / max(outlook.missing, 1)

    def is_affordable(self, place: int, spent: float, drafts: int) -> bool:
        """Whether an answer can bear it if drafts are wrong that have taken so long."""
        return spent + max(self.costs.of(self.rows + drafts) - self.costs.of(self.rows), 0.0) <= self.left[place]

    def goes_on(self, place: int, draft: Draft, spent: float, texts: int, left: int, rate: float) -> bool:
        """Whether one more draft of a text is worth the time of a draft, and of a row."""
        if not left or len(draft.tokens) == self.outlooks[place].most:
            return False
        if not self.is_affordable(place, spent + self.step(texts) / texts, len(draft.tokens) + 1):
            return False
        rows = self.rows + self.spare - left
        dear = self.step(texts) / texts + max(self.costs.of(rows + 1) - self.costs.of(rows), 0.0)
        return float(np.prod(draft.chances)) * self.usual[place] > rate * dear

    def _rate(self, asked: Sequence[int], depth: int) -> float:
        """Tokens for the time of a pass, if so many are drafted for these."""
        chances: dict[int, Sequence[float]] = {place: draft.chances for place, draft in self.found.items()}
        for place in asked:
            chances[place] = [self.usual[place]] * min(depth, self.outlooks[place].most)
        lag = sum(self._lag(place) for place in asked) * (1 + depth)
        drafts = depth * self.step(len(asked)) if asked else 0.0
        return share(chances, self.rows, self.spare, self.costs, drafts + lag)[1]

    def _lag(self, place: int) -> float:
        """Time to catch up with a text, for each token that it may go on for: as many as are missing, or can be left."""
        outlook = self.outlooks[place]
        return (outlook.passes - 1) * self.step(1) / max(min(outlook.missing, self.answers[place].room), 1)


def _gain(draft: Draft) -> float:
    """Tokens that a draft brings, as expected."""
    return sum(accumulate(draft.chances, mul))
