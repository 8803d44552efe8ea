"""What the steps of a device without a clock would have taken on the gateware."""

from collections import Counter
from typing import Any

from ..command.trace import predicted_trace
from ..device.decoder import Decoder
from ..image.predicted import predict_step
from ..transports.facts import config_of

#: Positions are rounded to multiples of so many, each predicted once: from one to the next, cycles change by little.
KNOT = 128


class PredictedCycles:
    """Cycles of all steps that a decoder has taken, predicted for the ideal memory.

    Parameters
    ----------
    decoder : Decoder
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self._config = decoder, config_of(decoder.device.transport)
        self._known: dict[tuple[str, int], int] = {}

    @property
    def total(self) -> int | None:
        """Since the decoder was made; None if nobody knows its build. New positions take a part of a second each."""
        if self._config is None:
            return None
        knots: Counter[tuple[str, int]] = Counter()
        # A copy, since steps are taken meanwhile.
        for (program, position), count in dict(self._decoder.steps).items():
            knots[program, min(round(position / KNOT) * KNOT, self._decoder.limit - 1)] += count
        return sum(count * self._cycles(*knot) for knot, count in knots.items())

    def trace(self) -> dict[str, Any] | None:
        """The last step, operation by operation, for Perfetto; None if there was none, or nobody knows its build.

        It takes seconds where a model has many layers.
        """
        if self._config is None or (last := self._decoder.last_step) is None:
            return None
        name, position = last
        programs = self._decoder.programs
        program = programs.program_at(name, position)
        prediction = predict_step(programs, self._config, position, program=name, exact=True)
        model = self._decoder.imported.description.architecture
        title = f"a step of {model} at position {position} on {self._config.name}, {prediction.cycles:,} cycles"
        return predicted_trace(prediction, program.commands, program.sections, title)

    def _cycles(self, program: str, position: int) -> int:
        assert self._config is not None
        if (program, position) not in self._known:
            prediction = predict_step(self._decoder.programs, self._config, position, program=program)
            self._known[program, position] = prediction.cycles
        return self._known[program, position]
