"""A prompt on the device, token by token and several tokens in a pass: predicted cycles."""

from collections.abc import Callable
from dataclasses import dataclass

from tailrace.spec.config import parse_config
from tailrace.spec.linear_attention import FOLD

from ..gguf.describe import DescribedModel
from ..image.builds import lay_out
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from ..image.predicted_cycles import PredictedCycles

MODELS = ("SmolLM2-135M", "Llama-3-8B", "Qwen3.5-4B", "Qwen3-30B-A3B")
#: Tokens of a prompt.
TOKENS = 512


@dataclass(frozen=True)
class Prompt:
    """What a prompt takes on the gateware, predicted.

    Attributes
    ----------
    model, config, memory : str
    tokens : int
    rows : int
        Tokens that a pass takes at most.
    single, together : int
        Cycles of all passes token by token, and with as many tokens in a pass as it takes; folds included, the head not.
    """

    model: str
    config: str
    memory: str
    tokens: int
    rows: int
    single: int
    together: int

    @property
    def ratio(self) -> float:
        """How many times as fast passes of several tokens are."""
        return self.single / self.together


def predict_prompt(
    name: str, imported: DescribedModel, config: str, *, tokens: int = TOKENS, memory: str = "ideal",
    on_progress: Callable[[str, float], None] | None = None,
) -> Prompt:  # fmt: skip
    """Predict the cycles of a prompt; nothing is simulated.

    Parameters
    ----------
    name : str
        What the model is called.
    imported : DescribedModel
    config : str
    tokens : int
        Its length, at most the model's context.
    memory : str
    on_progress : callable or None

    Raises
    ------
    ModelError, LimitError
        If the model does not run on the build.
    """
    build = parse_config(config)
    layout = lay_out(imported, Geometry.of_config(build), ImageRequest(whole_embedding=False))
    rows = layout.programs.most_rows
    costs, has_folds = PredictedCycles(layout.programs, build, memory=memory), "fold" in layout.programs.loaded
    folds = (tokens - 1) // FOLD * costs.of("fold", 0) if has_folds else 0.0
    if on_progress:
        on_progress(name, 0.0)
    single = costs.sum({("prompt", position): 1 for position in range(tokens)}) + folds
    if on_progress:
        on_progress(name, 0.5)
    together = 0.0
    for count, begins in passes_of(tokens, rows, FOLD if has_folds else tokens).items():
        program = layout.programs.name_of("prompt", [0] * count)
        together += costs.sum({(program, begin): 1 for begin in begins})
    return Prompt(name, config, memory, tokens, rows, round(single), round(together + folds))


def passes_of(tokens: int, rows: int, stretch: int) -> dict[int, list[int]]:
    """Where passes of a prompt begin, by their tokens: `rows` of them at most, and none across a multiple of `stretch`."""
    found: dict[int, list[int]] = {}
    position = 0
    while position < tokens:
        count = min(rows, tokens - position, stretch - position % stretch)
        found.setdefault(count, []).append(position)
        position += count
    return found
