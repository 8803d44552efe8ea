"""How fast a board takes steps and prompts of a model: predicted cycles at its clock, with its memory."""

from dataclasses import dataclass

from tailrace.sim.memory_models import dram_of
from tailrace.spec.config import Config, parse_config
from tailrace.spec.linear_attention import FOLD

from ..benchmark.prompt import passes_of
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from ..image.layout import Layout, layout_of
from ..image.predicted_cycles import PredictedCycles
from .described import PlannedModel, cache_bytes
from .table import Board

#: Difference of two bandwidths below which a channel is taken to be as wide as the bus.
_SAME = 0.01


@dataclass(frozen=True)
class Behind:
    """The memory behind a core, as predictions take it.

    Attributes
    ----------
    memory : str
        A DRAM channel as wide as the bus; or ``ideal``, with `bandwidth` beats a cycle.
    bandwidth : float
    """

    memory: str
    bandwidth: float


def behind(board: Board) -> Behind:
    """The memory behind each core of a board.

    A DRAM channel is predicted as such where core and memory have the same peak. Elsewhere the slower of the two counts: the
    core's bus, or what a long read gets of the memory.
    """
    peak = board.memory_gb_s * 1e9 / board.cores / (board.bus_bytes * board.clock_mhz * 1e6)
    dram = dram_of(board.memory_timing)
    if dram and abs(peak - 1) <= _SAME:
        return Behind(board.memory_timing, 1.0)
    return Behind("ideal", min(1.0, peak * (dram.ceiling if dram else board.reads)))


class CoreCycles:
    """Predicted cycles of steps and prompts on a core, for so many users who share its passes over the weights.

    Parameters
    ----------
    layout : Layout
        Of a batch of as many users, each with a context of its own.
    config : Config
        The build that it is for.
    memory : Behind
    """

    def __init__(self, layout: Layout, config: Config, memory: Behind) -> None:
        self._image, self._programs = layout.image, layout.programs
        self._cycles = PredictedCycles(self._programs, config, memory=memory.memory, bandwidth=memory.bandwidth)
        self._folds = "fold" in self._programs.loaded
        self._context = self._image.imported.context
        self.bytes, self.users = layout.size, self._image.request.batch

    @property
    def most_rows(self) -> int:
        """Tokens of a sequence that a pass takes at most."""
        return self._programs.most_rows

    @property
    def position(self) -> int:
        """Tokens in each cache at which steps are predicted: all but the last; with linear attention a list is half full."""
        last = self._context - 1
        return min(last // FOLD * FOLD + FOLD // 2, last) if self._folds else last

    def step(self) -> float:
        """Cycles of a step of all users with full contexts, each user's part of a fold included."""
        return self._cycles.exactly("tokens", self.position) + self.users * self._fold() / FOLD

    def drafts(self, rows: int) -> float:
        """Cycles of a pass over so many rows of one sequence, which verifies drafts, at the end of a full context."""
        name = self._programs.name_of("tokens", [0] * rows)
        return self._cycles.exactly(name, max(0, self._context - rows)) + self._fold() / FOLD

    def prompt(self, tokens: int) -> float:
        """Cycles of a prompt up to its first token: passes of as many tokens as fit, then a step of the last one."""
        before, steps = tokens - 1, dict[tuple[str, int], int]()
        for count, begins in passes_of(before, self.most_rows, FOLD if self._folds else max(before, 1)).items():
            name = self._programs.name_of("prompt", [0] * count)
            steps |= {(name, begin): 1 for begin in begins}
        return self._cycles.estimate(steps) + before // FOLD * self._fold() + self.last(tokens)

    def last(self, tokens: int) -> float:
        """Cycles of the step that takes the last token of a prompt, and gives the first one of the answer."""
        return self._cycles.exactly(self._programs.name_of("tokens", [0]), tokens - 1)

    def handed_over(self, tokens: int) -> int:
        """Bytes of the cache of a prompt that was computed elsewhere, without its last token."""
        return cache_bytes(self._image, tokens - 1)

    def _fold(self) -> float:
        return self._cycles.exactly("fold", 0) if self._folds else 0.0


class Cores:
    """Cores of boards that take a model. Each is worked out when it is asked for, and kept: boards may have the same.

    Parameters
    ----------
    model : PlannedModel
    """

    def __init__(self, model: PlannedModel) -> None:
        self.model = model
        self._layouts: dict[tuple[str, int], Layout] = {}
        self._known: dict[tuple[str, Behind, int], CoreCycles] = {}

    def of(self, board: Board, users: int = 1) -> CoreCycles:
        """A core of a board, with so many users.

        Raises
        ------
        ModelError, LimitError
            If the model, its context or so many users do not fit the build. Whether they fit the memory, nobody asks here.
        """
        key = board.build, behind(board), users
        if key not in self._known:
            self._known[key] = CoreCycles(self._layout(board.build, users), board.config, key[1])
        return self._known[key]

    def _layout(self, build: str, users: int) -> Layout:
        if (build, users) not in self._layouts:
            request, geometry = ImageRequest(users, whole_embedding=False), Geometry.of_config(parse_config(build))
            self._layouts[build, users] = layout_of(self.model.imported, geometry, request)
        return self._layouts[build, users]
