"""Predicted against simulated cycles of decode steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from tailrace.spec.config import Config, parse_config

from ..gguf.describe import import_model
from ..gguf.file import open_model
from ..image.builds import lay_out
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from ..image.predicted import predict_step
from ..image.programs import Programs
from ..models.fetch import NAME, resolve_model
from ..models.measured import SHAPES
from .decode import CAPACITY, CONFIGS, REAL, Point, measure
from .models import imported_shape


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
    programs, config = _programs(point.model, point.width)
    start = time.process_time()
    predicted = predict_step(programs, config, point.context, program="tokens", memory=point.memory).cycles
    return Comparison(point, simulated, predicted, time.process_time() - start)


@lru_cache
def _programs(name: str, width: int) -> tuple[Programs, Config]:
    """The programs of a model with all its layers, which a prediction does not mind, and the build that they are for."""
    config = parse_config(CONFIGS[width])
    if name == REAL:
        imported = import_model(open_model(resolve_model(NAME)), CAPACITY)
    else:
        imported = imported_shape(SHAPES[name], CAPACITY)
    return lay_out(imported, Geometry.of_config(config), ImageRequest()).programs, config
