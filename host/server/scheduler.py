"""Token-level continuous batching: one thread owns the device, and each of its steps serves whoever is there."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailrace.spec.errors import TailraceError

from ..generation.answer import Answer
from ..generation.completion import Piece
from ..generation.engine import Engine
from .errors import ApiError

_log = logging.getLogger("tailrace.server")

#: Told of each piece of an answer, or why there is none any more; from the scheduler's thread.
Sink = Callable[[Piece | BaseException], None]


@dataclass
class Load:
    """What has been done, and what is being done.

    Attributes
    ----------
    running, waiting : int
        Answers.
    prompt_tokens, reused_tokens, generated_tokens, finished, cancelled, failed, refused : int
        Since the start; `reused_tokens` are those of prompts that the device held already.
    steps : int
        Of the device.
    seconds : float
        Time in which the device was at work.
    """

    running: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    steps: int = 0
    seconds: float = 0.0


@dataclass
class _Job:
    answers: list[Answer]
    sink: Sink
    cancelled: bool = False
    failed: bool = False


class Ticket:
    """A request that was taken; `cancel` lets go of its answers."""

    def __init__(self, scheduler: "Scheduler", job: _Job) -> None:
        self._scheduler, self._job = scheduler, job

    def cancel(self) -> None:
        """Compute no more of it, from the next step on. What is finished is not changed by it."""
        self._scheduler._cancel(self._job)


class Scheduler:
    """Gives the sequences of an engine to answers, in the order in which these came.

    A step takes the next token of each answer that has a sequence: of its prompt, or the one that was chosen last. So an answer
    begins in the step after one has ended, and nobody waits for the longest. Each has the bits that it has alone.

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
        self._waiting: deque[tuple[_Job, Answer]] = deque()
        self._active: list[tuple[_Job, Answer]] = []
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
            self._waiting.extend((job, answer) for answer in job.answers)
            self._count()
            self._changed.notify_all()
        return Ticket(self, job)

    def close(self, patience: float) -> None:
        """Take nothing more, let what is running finish for so many seconds, and cancel the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._active and not self._waiting, patience)
            for job in {id(job): job for job, _ in (*self._active, *self._waiting)}.values():
                self._fail(job, ApiError(503, "the server was shut down", "server_error", code="shutting_down"))
            self._changed.notify_all()
        self._thread.join()

    def _cancel(self, job: _Job) -> None:
        with self._changed:
            if not job.cancelled and any(answer.reason is None for answer in job.answers):
                job.cancelled = True
                self.load.cancelled += 1
            self._waiting = deque((other, answer) for other, answer in self._waiting if other is not job)
            self._count()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._active or self._waiting or self._closing)
                if self._closing and not self._active and not self._waiting:
                    return
                for job, answer in [entry for entry in self._active if entry[0].cancelled or entry[0].failed]:
                    self.engine.release(answer)
                    self._active.remove((job, answer))
                while self._waiting and len(self._active) < self.engine.decoder.batch:
                    self._active.append(self._waiting.popleft())
                active = list(self._active)
                self._count()
                self._changed.notify_all()
            if active:
                self._step(active)

    def _step(self, active: Sequence[tuple[_Job, Answer]]) -> None:
        """Take one step for these, and tell who asked."""
        begun = [answer for _, answer in active if answer.reused is None]
        before = {id(answer): (len(answer.tokens), answer.seconds) for _, answer in active}
        try:
            pieces = self.engine.advance([answer for _, answer in active])
        except BaseException as error:
            _log.exception("a step failed")
            with self._changed:
                for job, answer in active:
                    self.engine.release(answer)
                    self._fail(job, error)
                self._active = []
                self._count()
                self._changed.notify_all()
            return
        with self._changed:
            load = self.load
            load.steps += 1
            load.prompt_tokens += sum(answer.prompt_tokens for answer in begun)
            load.reused_tokens += sum(answer.reused or 0 for answer in begun)
            load.generated_tokens += sum(len(answer.tokens) - before[id(answer)][0] for _, answer in active)
            load.seconds += max(answer.seconds - before[id(answer)][1] for _, answer in active)
            load.finished += sum(answer.reason is not None for _, answer in active)
            for job, answer in active:
                if answer.failure is not None:
                    self.engine.release(answer)
                    self._fail(job, ApiError(400, str(answer.failure) or repr(answer.failure), code="no_token_possible"))
            self._active = [entry for entry in self._active if entry[1].reason is None and entry[1].failure is None]
            self._count()
            self._changed.notify_all()
        owners = {id(answer): job for job, answer in active}
        for answer, piece in pieces:
            if not (job := owners[id(answer)]).cancelled:
                job.sink(piece)

    def _fail(self, job: _Job, error: BaseException) -> None:
        if not job.failed and not job.cancelled:
            job.failed = True
            self.load.failed += 1
            job.sink(error if isinstance(error, ApiError | TailraceError) else TailraceError(str(error) or repr(error)))
        self._waiting = deque((other, answer) for other, answer in self._waiting if other is not job)

    def _count(self) -> None:
        self.load.running, self.load.waiting = len(self._active), len(self._waiting)
