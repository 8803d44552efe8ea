"""How long a prompt takes to its first token: on the device itself, or on a GPU that hands its cache over."""

from dataclasses import dataclass

from ..transports.sizes import parse_size
from .described import PlannedModel
from .speed import CoreCycles
from .table import Board, Gpu

#: Bytes of a weight on a GPU: PyTorch's copy of a model has 16 bits there.
WEIGHT_BYTES = 2


@dataclass(frozen=True)
class FirstToken:
    """The time to a first token, and where it goes.

    Attributes
    ----------
    gpu : Gpu or None
        None: the device itself computes the prompt.
    prefill, hand_over, step : float
        Seconds: of the prompt, of its cache on the way to the board, and of the step that gives the first token. All of the
        device's are in `prefill`.
    """

    gpu: Gpu | None
    prefill: float
    hand_over: float = 0.0
    step: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.prefill + self.hand_over + self.step

    @property
    def name(self) -> str:
        """What computes the prompt."""
        return self.gpu.name if self.gpu else "device"


def on_device(core: CoreCycles, board: Board, tokens: int) -> FirstToken:
    """A prompt on the device, which has nothing else to do meanwhile."""
    return FirstToken(None, 1 / board.rate(core.prompt(tokens)))


def on_gpu(model: PlannedModel, core: CoreCycles, board: Board, gpu: Gpu, tokens: int) -> FirstToken:
    """A prompt on a GPU: what takes longer, its operations or reading the weights, at a part of the GPU's peaks."""
    before = tokens - 1
    operations = model.operations(before) / (gpu.fp16_tflops * 1e12 * gpu.part)
    read = WEIGHT_BYTES * model.read(before) / (gpu.memory_gb_s * 1e9 * gpu.part)
    over = core.handed_over(tokens) / (board.link_mb_s * 1e6)
    return FirstToken(gpu, max(operations, read), over, 1 / board.rate(core.last(tokens)))


def too_large_for(model: PlannedModel, gpu: Gpu) -> str:
    """Why a GPU can't hold a model; nothing, if it can."""
    needed, there = WEIGHT_BYTES * model.parameters, parse_size(gpu.memory_size)
    return f"{gpu.name}: {needed / 1e9:.1f} GB with 16 bits a weight, {there / 1e9:.1f} there" if needed > there else ""
