"""Predicted cycles of decode steps, alone and against simulated ones."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from tailrace.spec.config import parse_config
from tailrace.spec.linear_attention import FOLD

from ..image.builds import lay_out
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from ..image.layout import Layout
from ..image.predicted import predict_step
from .decode import Point, Step, context_of, imported_model, measure
from .must_read import bytes_again, measured_bytes
from .recording import Stretch


@dataclass(frozen=True)
class Comparison:
    """A decode step, simulated and predicted.

    Attributes
    ----------
    point : Point
    simulated : float
        Cycles, or the sum for all layers.
    predicted : int
        Cycles of all layers.
    seconds : float
        Processor time that the prediction took here.
    """

    point: Point
    simulated: float
    predicted: int
    seconds: float

    @property
    def error(self) -> float:
        """Part of the simulated cycles by which the prediction is too large."""
        return (self.predicted - self.simulated) / self.simulated


def compare(point: Point, on_progress: Callable[[str, float], None] | None = None) -> Comparison:
    """Predict a decode step, and simulate it or find in the cache what it took.

    Parameters
    ----------
    point : Point
    on_progress : callable or None
        Told what is being simulated, and which part of its cycles has been.

    Raises
    ------
    ModelError, LimitError
        If the model does not run on the build.
    """
    simulated = measure(point, on_progress).total.cycles
    layout = _laid_out(point.model, point.build, point.capacity)
    start = time.process_time()
    total, _ = _predicted(layout, point)
    return Comparison(point, simulated, round(total), time.process_time() - start)


def predicted_step(point: Point) -> Step:
    """A decode step as `tailrace.benchmark.decode.measure` has it, with predicted cycles, and nothing simulated.

    Raises
    ------
    ModelError, LimitError
        If the model does not run on the build.
    """
    layout = _laid_out(point.model, point.build, point.capacity)
    total, fold = _predicted(layout, point)
    image, context = layout.image, context_of(point, fold > 0)
    return Step(point, measured_bytes(image, context), bytes_again(image, context), Stretch(total, {}, {}), True, fold)


def _predicted(layout: Layout, point: Point) -> tuple[float, int]:
    """Cycles of a step, with its part of a fold; and of a fold, 0: there is none."""
    programs, config = layout.programs, point.config
    folded = "fold" in programs.loaded

    def cycles(program: str, position: int) -> int:
        return predict_step(programs, config, position, program=program, memory=point.memory).cycles

    fold = cycles("fold", 0) if folded else 0
    return cycles("tokens", context_of(point, folded)) + fold / FOLD, fold


@lru_cache
def _laid_out(name: str, build: str, capacity: int) -> Layout:
    """A model with all its layers, which a prediction does not mind, laid out for its build."""
    return lay_out(imported_model(name, capacity), Geometry.of_config(parse_config(build)), ImageRequest())
