"""Token-level continuous batching: one thread owns the device, and each of its steps serves whoever is there."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from tailrace.spec.errors import TailraceError

from ..generation.answer import Answer
from ..generation.completion import Piece
from ..generation.engine import Engine
from .errors import ApiError
from .load import Load

_log = logging.getLogger("tailrace.server")

#: Told of each piece of an answer, or why there is none any more; from the scheduler's thread.
Sink = Callable[[Piece | BaseException], None]


@dataclass
class _Job:
    answers: list[Answer]
    sink: Sink
    cancelled: bool = False
    failed: bool = False
    asked: float = field(default_factory=monotonic)


@dataclass
class _Entry:
    """An answer, and when it got its sequence, its first token, and its last one so far."""

    job: _Job
    answer: Answer
    begun: float = 0.0
    first: float = 0.0
    last: float = 0.0


class Ticket:
    """A request that was taken; `cancel` lets go of its answers."""

    def __init__(self, scheduler: "Scheduler", job: _Job) -> None:
        self._scheduler, self._job = scheduler, job

    def cancel(self) -> None:
        """Compute no more of it, from the next step on. What is finished is not changed by it."""
        self._scheduler._cancel(self._job)


class Scheduler:
    """Gives the sequences of an engine to answers, in the order in which these came.

    A step takes the next token of each answer that has a sequence, of its prompt, or the one that was chosen last; in the rows
    that are left, more of the prompts, and drafts. So an answer begins in the step after one has ended, and nobody waits for
    the longest. Each has the bits that it has alone.

    Parameters
    ----------
    engine : Engine
        Belongs to the scheduler's thread until it is closed.
    queue : int
        Answers that may wait. More are refused.
    """

    def __init__(self, engine: Engine, queue: int) -> None:
        self.engine, self.queue = engine, queue
        self.load = Load()
        self._waiting: deque[_Entry] = deque()
        self._active: list[_Entry] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="tailrace-engine", daemon=True)
        self._thread.start()

    def submit(self, answers: Sequence[Answer], sink: Sink) -> Ticket:
        """Take answers of one request, to be told of by their indices.

        Raises
        ------
        ApiError
            429: too many are waiting; 503: the server is about to end.
        """
        job = _Job(list(answers), sink)
        with self._changed:
            if self._closing:
                raise ApiError(503, "the server is shutting down: ask again later", "server_error", code="shutting_down")
            free = self.engine.decoder.batch - len(self._active) + self.queue - len(self._waiting)
            if len(answers) > free:
                self.load.refused += 1
                raise ApiError(
                    429,
                    f"{len(self._active)} answers are being computed and {len(self._waiting)} wait: try again in a moment",
                    "rate_limit_error",
                    code="queue_full",
                )
            self._waiting.extend(_Entry(job, answer) for answer in job.answers)
            self._count()
            self._changed.notify_all()
        return Ticket(self, job)

    def placed(self) -> dict[int, Answer]:
        """Answers that are being computed, by their sequences."""
        with self._changed:
            found = {self.engine.sequences.find(entry.answer.holder): entry.answer for entry in self._active}
        return {place: answer for place, answer in found.items() if place is not None}

    def close(self, patience: float) -> None:
        """Take nothing more, let what is running finish for so many seconds, and cancel the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._active and not self._waiting, patience)
            for job in {id(entry.job): entry.job for entry in (*self._active, *self._waiting)}.values():
                self._fail(job, ApiError(503, "the server was shut down", "server_error", code="shutting_down"))
            self._changed.notify_all()
        self._thread.join()

    def _cancel(self, job: _Job) -> None:
        with self._changed:
            if not job.cancelled and any(answer.reason is None for answer in job.answers):
                job.cancelled = True
                self.load.cancelled += 1
            self._waiting = deque(entry for entry in self._waiting if entry.job is not job)
            self._count()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._active or self._waiting or self._closing)
                if self._closing and not self._active and not self._waiting:
                    return
                for entry in [entry for entry in self._active if entry.job.cancelled or entry.job.failed]:
                    self.engine.release(entry.answer)
                    self._active.remove(entry)
                while self._waiting and len(self._active) < self.engine.decoder.batch:
                    self._active.append(entry := self._waiting.popleft())
                    entry.begun = monotonic()
                    self.load.queue.observe(entry.begun - entry.job.asked)
                active = list(self._active)
                self._count()
                self._changed.notify_all()
            if active:
                self._step(active)

    def _step(self, active: Sequence[_Entry]) -> None:
        """Take one step for these, and tell who asked."""
        answers = [entry.answer for entry in active]
        begun = [answer for answer in answers if answer.reused is None]
        before = {id(answer): (len(answer.tokens), answer.seconds) for answer in answers}
        drafted = [(answer.drafted, answer.accepted) for answer in answers]
        counted = self.engine.decoder.counters
        try:
            pieces = self.engine.advance(answers)
        except BaseException as error:
            _log.exception("a step failed")
            with self._changed:
                for entry in active:
                    self.engine.release(entry.answer)
                    self._fail(entry.job, error)
                self._active = []
                self.load.failures_in_a_row += 1
                self.load.last_failure = str(error) or repr(error)
                self._count()
                self._changed.notify_all()
            return
        with self._changed:
            load = self.load
            load.steps, load.busy, load.failures_in_a_row = load.steps + 1, load.busy + len(active), 0
            load.counters += self.engine.decoder.counters - counted
            load.prompt_tokens += sum(answer.prompt_tokens for answer in begun)
            load.reused_tokens += sum(answer.reused or 0 for answer in begun)
            load.seconds += max(answer.seconds - before[id(answer)][1] for answer in answers)
            for answer, (verified, accepted) in zip(answers, drafted, strict=True):
                load.drafts += answer.drafted > verified
                load.drafted_tokens += answer.drafted - verified
                load.accepted_tokens += answer.accepted - accepted
            for entry in active:
                self._note(entry, len(entry.answer.tokens) - before[id(entry.answer)][0])
            self._active = [entry for entry in active if entry.answer.reason is None and entry.answer.failure is None]
            self._count()
            self._changed.notify_all()
        owners = {id(entry.answer): entry.job for entry in active}
        for answer, piece in pieces:
            if not (job := owners[id(answer)]).cancelled:
                job.sink(piece)

    def _note(self, entry: _Entry, tokens: int) -> None:
        """Note what a step has done for an answer: so many tokens, and perhaps its end."""
        load, answer, now = self.load, entry.answer, monotonic()
        load.generated_tokens += tokens
        for _ in range(tokens):
            if entry.first:
                load.between_tokens.observe((now - entry.last) / tokens)
            else:
                entry.first = now
                load.first_token.observe(now - entry.job.asked)
                load.prefill.observe(now - entry.begun)
        entry.last = now if tokens else entry.last
        if answer.failure is not None:
            self.engine.release(answer)
            self._fail(entry.job, ApiError(400, str(answer.failure) or repr(answer.failure), code="no_token_possible"))
        if answer.reason is not None:
            load.finished += 1
            load.reasons[answer.reason] += 1
            load.prompt_seconds += answer.prompt_seconds
            load.answer_seconds += answer.seconds - answer.prompt_seconds
            load.whole.observe(now - entry.job.asked)
            if entry.first:
                load.decode.observe(now - entry.first)

    def _fail(self, job: _Job, error: BaseException) -> None:
        if not job.failed and not job.cancelled:
            job.failed = True
            self.load.failed += 1
            job.sink(error if isinstance(error, ApiError | TailraceError) else TailraceError(str(error) or repr(error)))
        self._waiting = deque(entry for entry in self._waiting if entry.job is not job)

    def _count(self) -> None:
        self.load.running, self.load.waiting = len(self._active), len(self._waiting)
