"""What the steps of a device without a clock would have taken on the gateware."""

from typing import Any

from ..command.trace import predicted_trace
from ..device.decoder import Decoder
from ..image.predicted import predict_step
from ..image.predicted_cycles import PredictedCycles
from ..transports.facts import config_of


class PredictedSteps:
    """Cycles of all steps that a decoder has taken, predicted for the ideal memory.

    Parameters
    ----------
    decoder : Decoder
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self._config = decoder, config_of(decoder.device.transport)
        self._cycles = None if self._config is None else PredictedCycles(decoder.programs, self._config)

    @property
    def total(self) -> int | None:
        """Since the decoder was made; None if nobody knows its build. New positions take a part of a second each."""
        # A copy, since steps are taken meanwhile.
        return None if self._cycles is None else round(self._cycles.sum(dict(self._decoder.steps)))

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
