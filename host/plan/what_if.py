"""What other builds would bring on a board: more or fewer rows of a pass, a wider or narrower bus, drafts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from tailrace.spec.config import parse_config
from tailrace.spec.errors import LimitError, ModelError

from ..progress import Progress
from .candidates import shared
from .prefill import on_device
from .speed import Cores
from .table import Board

#: Right-hand sides, which are rows of a pass, and ports of 128 bits that are looked at.
ROWS = (1, 2, 4, 8)
PORTS = (1, 2, 4)
#: Tokens of a pass with drafts: measured on a passage that is edited, the least of the greedy answers of docs/speculation.md.
TOKENS_PER_PASS = 2.13
#: Rows of a pass that this was measured with.
DRAFT_ROWS = 4


@dataclass(frozen=True)
class Variant:
    """A board with another build.

    Attributes
    ----------
    board : Board
    note : str
        Whether it is the build that the table has; or why it takes nothing.
    alone : float
        Tokens per second of one user.
    drafts : float
        The same with drafts, each pass as dear as one of `DRAFT_ROWS` rows; 0: a pass has too few rows.
    users : int
        Who share a core, as many as rows and memory allow.
    total : float
        Tokens per second of all of them.
    first : float
        Seconds to the first token of a prompt on the device.
    """

    board: Board
    note: str
    alone: float = 0.0
    drafts: float = 0.0
    users: int = 0
    total: float = 0.0
    first: float = 0.0


def what_if(
    cores: Cores, board: Board, prompt: int, tokens_per_pass: float = TOKENS_PER_PASS, on_progress: Progress | None = None
) -> list[Variant]:
    """Work a board out with other builds; its FPGA is not asked whether they fit.

    Parameters
    ----------
    cores : Cores
    board : Board
    prompt : int
        Tokens of a prompt.
    tokens_per_pass : float
        That drafts bring.
    on_progress : callable or None
    """
    boards, found = list(other_builds(board)), []
    for n, other in enumerate(boards):
        if on_progress:
            on_progress(other.build, n / len(boards))
        found.append(_variant(cores, other, prompt, tokens_per_pass, "" if other != board else "as it is"))
    return found


def other_builds(board: Board) -> Iterator[Board]:
    """The board with each number of rows, then with each number of ports of 128 bits; its own build is among them once."""
    config = board.config
    for rows in sorted({*ROWS, config.right_hand_sides}):
        yield replace(board, build=changed(board.build, right_hand_sides=rows))
    for ports in PORTS:
        if 128 * ports != 8 * board.bus_bytes:
            yield replace(board, build=changed(board.build, bus_width=128, channels=ports), ports=ports, port_bits=128)


def changed(build: str, **values: int) -> str:
    """A build with other values; as it stands, if they are its own."""
    config = parse_config(build)
    values = {field: value for field, value in values.items() if getattr(config, field) != value}
    name, *changes = build.split(",")
    kept = [change for change in changes if change.partition("=")[0] not in values]
    return ",".join([name, *kept, *(f"{field}={value}" for field, value in values.items())])


def _variant(cores: Cores, board: Board, prompt: int, tokens_per_pass: float, note: str) -> Variant:
    try:
        alone = cores.of(board)
    except (LimitError, ModelError) as error:
        return Variant(board, str(error).partition(":")[0])
    least = ceil(tokens_per_pass)
    rows = max(least, min(alone.most_rows, DRAFT_ROWS))
    drafts = tokens_per_pass * board.rate(alone.drafts(rows)) if alone.most_rows >= least else 0.0
    core = shared(cores, board, board.config.right_hand_sides)
    if core.bytes > board.core_bytes:
        note = f"{note}, memory too small".removeprefix(", ")
    return Variant(
        board, note, board.rate(alone.step()), drafts, core.users, core.users * board.rate(core.step()),
        on_device(alone, board, prompt).seconds,
    )  # fmt: skip
