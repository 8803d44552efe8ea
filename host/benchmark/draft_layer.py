"""What a layer that drafts takes: predicted cycles of a draft, and of the passes that fill the layer's cache."""

from dataclasses import dataclass

from rich.table import Table

from tailrace.spec.config import parse_config

from ..image.builds import lay_out
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from ..image.predicted import predict_step
from ..image.programs import DRAFT
from ..models.measured import SHAPES
from .models import imported_shape

#: Shapes whose published models have such a layer.
MODELS = ("Qwen3.5-4B", "Qwen3.6-27B", "Qwen3.6-35B-A3B")


@dataclass(frozen=True)
class DraftCost:
    """Predicted cycles, with a token for a sequence.

    Attributes
    ----------
    model : str
    plain : int
        Of a pass without the layer.
    filling : int
        Of one that fills its cache.
    draft : int
    two : int
        Of a pass that verifies one draft.
    """

    model: str
    plain: int
    filling: int
    draft: int
    two: int

    @property
    def least(self) -> float:
        """How often a draft must be right to pay, beside passes without the layer, if each pass verifies one."""
        return (self.draft + self.two) / self.plain - 1


def predict_draft(name: str, config: str, context: int, memory: str = "ideal") -> DraftCost:
    """Predict what drafts take; nothing is simulated.

    Parameters
    ----------
    name : str
        One of the shapes.
    config, memory : str
    context : int
        Tokens in the cache.

    Raises
    ------
    ModelError, LimitError
        If the model does not run on the build, or has no room for two rows.
    """
    build, imported = parse_config(config), imported_shape(SHAPES[name], context + 64, drafts=True)
    found = {}
    for kind, model in (("plain", imported.without_drafts()), ("with", imported)):
        programs = lay_out(model, Geometry.of_config(build), ImageRequest(whole_embedding=False)).programs
        wanted = {"one": programs.name_of("tokens", [0])}
        if model is imported:
            wanted |= {"two": programs.name_of("tokens", [0, 0]), DRAFT: programs.name_of(DRAFT, [0])}
        for what, program in wanted.items():
            found[kind, what] = predict_step(programs, build, context, program=program, memory=memory).cycles
    return DraftCost(name, found["plain", "one"], found["with", "one"], found["with", DRAFT], found["with", "two"])


def draft_table(costs: list[DraftCost], title: str) -> Table:
    """A row for each model."""
    caption = (
        "In parentheses: times a pass without the layer. Pays from: how often a draft must be right, if each pass verifies one."
    )
    table = Table(title=title, caption=caption, caption_justify="left")
    for name in ("model", "pass without", "pass with", "draft", "pass of two rows", "pays from"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for cost in costs:
        more = (f"{cycles:,} ({cycles / cost.plain:.3f})" for cycles in (cost.filling, cost.draft, cost.two))
        table.add_row(cost.model, f"{cost.plain:,}", *more, f"{cost.least:.0%}")
    return table
