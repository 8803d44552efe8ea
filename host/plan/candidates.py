"""Candidates for a wish: for each board how many, with how many users each, with which prefill; and why others will not do."""

from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.spec.errors import LimitError, ModelError

from ..progress import Progress
from .described import PlannedModel
from .prefill import FirstToken, on_device, on_gpu, too_large_for
from .speed import CoreCycles, Cores
from .table import Board, Gpu, Hardware

#: What candidates can be ranked by.
RANKS = ("usd", "watts")
#: Times its memory up to which it is worked out how fast a board would be if it had more.
_NEAR = 8


@dataclass(frozen=True)
class Wish:
    """What is wanted.

    Attributes
    ----------
    users : int
        Who are answered at the same time.
    tokens_per_second : float
        For each of them, with a full context.
    prompt : int
        Tokens of a prompt.
    first_token : float
        Seconds from a prompt to its first token, at most.
    """

    users: int
    tokens_per_second: float
    prompt: int
    first_token: float


@dataclass(frozen=True)
class Candidate:
    """A board, as many of it as the users need, and what computes their prompts.

    Attributes
    ----------
    board : Board
    reason : str
        Why it will not do; empty: it does.
    speed : float
        Tokens per second of each user; 0: not known, as the build does not take the model.
    sharing : int
        Users who share a core.
    boards : int
        How many of it; 0: it will not do.
    users : int
    first : FirstToken or None
    """

    board: Board
    reason: str
    speed: float = 0.0
    sharing: int = 1
    boards: int = 0
    users: int = 1
    first: FirstToken | None = None

    @property
    def total(self) -> float:
        """Tokens per second of all users."""
        return self.speed * self.users

    @property
    def watts(self) -> float:
        """Of all boards and the GPU."""
        gpu = self.first.gpu if self.first else None
        return max(self.boards, 1) * self.board.watts + (gpu.watts if gpu else 0.0)

    @property
    def usd(self) -> float:
        """Price of all boards and the GPU."""
        gpu = self.first.gpu if self.first else None
        return max(self.boards, 1) * self.board.usd + (gpu.usd if gpu else 0.0)

    def by(self, rank: str) -> float:
        """What it is ranked by: one of `RANKS`."""
        return self.watts if rank == "watts" else self.usd


def candidates(
    cores: Cores, hardware: Hardware, wish: Wish, rank: str = "usd", prefill: str | None = None,
    on_progress: Progress | None = None,
) -> list[Candidate]:  # fmt: skip
    """Work all boards out: first those that do, from the least by `rank` on, then those that will not, the fastest first.

    Parameters
    ----------
    cores : Cores
        Of the model.
    hardware : Hardware
    wish : Wish
    rank : str
        One of `RANKS`.
    prefill : str or None
        Name of what computes prompts, ``device`` or a GPU's; None: the least by `rank` that is quick enough.
    on_progress : callable or None
    """
    found = []
    for n, board in enumerate(hardware.boards):
        if on_progress:
            on_progress(board.name, n / len(hardware.boards))
        found.append(_candidate(cores, board, hardware.gpus, wish, rank, prefill))
    return sorted(found, key=lambda c: (bool(c.reason), -c.speed if c.reason else c.by(rank), c.watts, c.usd))


def _candidate(cores: Cores, board: Board, gpus: Sequence[Gpu], wish: Wish, rank: str, prefill: str | None) -> Candidate:
    try:
        alone = cores.of(board)
    except (LimitError, ModelError) as error:
        # What follows a colon is the account of a buffer.
        return Candidate(board, f"build {board.build}: {str(error).partition(':')[0]}")
    if alone.bytes > board.core_bytes:
        each = " for each core" if board.cores > 1 else ""
        reason = f"memory: {alone.bytes / 1e9:.2f} GB needed, {board.core_bytes / 1e9:.2f} GB there{each}"
        # What is nowhere near is not worth a prediction.
        return Candidate(board, reason, board.rate(alone.step()) if alone.bytes <= _NEAR * board.core_bytes else 0.0)
    core = shared(cores, board, wish.users, wish.tokens_per_second)
    speed = board.rate(core.step())
    if speed < wish.tokens_per_second:
        return Candidate(board, f"speed: {speed:.2f} tokens/s at most, {wish.tokens_per_second:g} wished", speed)
    boards = -(-wish.users // (core.users * board.cores))
    # The last board need not be full: users are spread evenly.
    core = cores.of(board, -(-wish.users // (boards * board.cores)))
    options = first_tokens(cores.model, core, board, gpus, wish.prompt)
    made = [
        Candidate(board, "", board.rate(core.step()), core.users, boards, wish.users, first)
        for first in options
        if prefill in (None, first.name)
    ]
    quick = [c for c in made if c.first and c.first.seconds <= wish.first_token]
    if quick:
        return min(quick, key=lambda c: (c.by(rank), c.watts, c.usd))
    times = ", ".join(f"{c.first.seconds:.3g} s with {c.first.name}" for c in made if c.first)
    times = times or "; ".join(too_large_for(cores.model, gpu) for gpu in gpus if gpu.name == prefill)
    return Candidate(board, f"first token: {times}", board.rate(core.step()))


def first_tokens(model: PlannedModel, core: CoreCycles, board: Board, gpus: Sequence[Gpu], prompt: int) -> list[FirstToken]:
    """The time to the first token with each prefill that can be had, the device's first."""
    fitting = [gpu for gpu in gpus if not too_large_for(model, gpu)]
    return [on_device(core, board, prompt), *(on_gpu(model, core, board, gpu, prompt) for gpu in fitting)]


def shared(cores: Cores, board: Board, most: int, speed: float = 0.0) -> CoreCycles:
    """A core with as many users as it can take, up to `most`: as many as there are rows, room and time for.

    Parameters
    ----------
    cores : Cores
    board : Board
        Which takes one of them.
    most : int
    speed : float
        Tokens per second that each must have.
    """
    for users in range(min(most, board.config.right_hand_sides), 1, -1):
        try:
            core = cores.of(board, users)
        except LimitError:
            # No room in the buffer for so many rows.
            continue
        if core.bytes <= board.core_bytes and board.rate(core.step()) >= speed:
            return core
    return cores.of(board)
