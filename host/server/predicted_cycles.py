"""What the steps of a device without a clock would have taken on the gateware."""

from collections import Counter

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

    def _cycles(self, program: str, position: int) -> int:
        assert self._config is not None
        if (program, position) not in self._known:
            prediction = predict_step(self._decoder.programs, self._config, position, program=program)
            self._known[program, position] = prediction.cycles
        return self._known[program, position]
