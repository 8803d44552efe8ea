"""Predicted cycles of many passes, of which few are worked out."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from tailrace.sim.timing.prediction import LATENCY
from tailrace.spec.config import Config
from tailrace.spec.isa import STREAM_UNIT
from tailrace.spec.linear_attention import FOLD

from .predicted import predict_step
from .programs import Programs, folds

#: Passes are worked out at positions that are at most so far apart: what a fold empties has been filled in between.
KNOT = FOLD
#: With few tokens in the cache results of products with the values come as fast as words can be written, and cycles grow in
#: steps: where a pass sees fewer tokens, it lies between passes whose values have as many beats.
FEW, STEP = 4 * KNOT, STREAM_UNIT


class PredictedCycles:
    """Predicted cycles of passes at any position. A prediction takes a part of a second, and answers have thousands of passes.

    * Two passes of each stretch of `KNOT` positions, or of `STEP` if there are `FEW`, are worked out when one of them is asked
      for, and kept. In between, cycles grow evenly.
    * Both are passes of the program that runs at the position: chunks of a cache that are divided otherwise take another one.
    * With linear attention a stretch ends before a fold, which empties the list that a pass reads.
    * So cycles are those of `predict_step`, but for `tailrace.sim.timing.prediction.LARGEST_ERROR` at most, and those of passes
      that are worked out are the same.

    Parameters
    ----------
    programs : Programs
    config : Config
        The build that they are for.
    memory, latency, bandwidth
        The memory behind the core, as for `tailrace.sim.verilated.VerilatedDevice`.
    """

    def __init__(
        self, programs: Programs, config: Config, *, memory: str = "ideal", latency: int = LATENCY,
        bandwidth: float | Fraction = 1.0,
    ) -> None:  # fmt: skip
        self._programs, self._config = programs, config
        self._memory, self._latency, self._bandwidth = memory, latency, bandwidth
        self._folds = folds(programs.image.imported.description)
        self._known: dict[tuple[str, int], int] = {}

    def of(self, program: str, position: int) -> float:
        """Cycles of a pass.

        Parameters
        ----------
        program : str
            Name of one of the programs, as for `predict_step`.
        position : int
            Of each sequence's first row; where there is no room for the pass, the last position that has some. A fold takes the
            same everywhere.
        """
        rows = self._programs.positions(program, 0)
        if not rows:
            return float(self.exactly(program, 0))
        position = min(position, self._programs.image.capacity - 1 - max(rows))
        first, last = self._knots(rows, position)
        return float(np.interp(position, [first, last], [self.exactly(program, knot) for knot in (first, last)]))

    def sum(self, steps: Mapping[tuple[str, int], int]) -> float:
        """Cycles of passes, of which it is known how many there were by program and position, as `Decoder.steps` has them."""
        return sum((count * self.of(*step) for step, count in steps.items()), start=0.0)

    def estimate(self, steps: Mapping[tuple[str, int], int]) -> float:
        """Cycles of the same passes, those of a program all at the mean of their positions: one prediction for each program.

        What a pass takes grows evenly, but for folds: over more positions than a list has, the list is taken to be half full.
        """
        total = 0.0
        for program in {program for program, _ in steps}:
            at = {position: count for (name, position), count in steps.items() if name == program}
            count = sum(at.values())
            mean = round(sum(position * times for position, times in at.items()) / count)
            if self._folds and max(at) - min(at) >= FOLD:
                mean = mean // FOLD * FOLD + FOLD // 2
            rows = self._programs.positions(program, 0)
            last = self._programs.image.capacity - 1 - max(rows) if rows else 0
            total += count * self.exactly(program, min(mean, last))
        return total

    def exactly(self, program: str, position: int) -> int:
        """Cycles of a pass, worked out."""
        key = program, position
        if key not in self._known:
            prediction = predict_step(
                self._programs, self._config, position, program=program, memory=self._memory, latency=self._latency,
                bandwidth=self._bandwidth,
            )  # fmt: skip
            self._known[key] = prediction.cycles
        return self._known[key]

    def _knots(self, rows: Sequence[int], position: int) -> tuple[int, int]:
        """Positions on both sides of one, as far apart as it can be said what is between them; `rows`: distances from it."""
        last, fold = max(rows), position // KNOT * KNOT
        if position + last < FEW:
            begin = max((position + last) // STEP * STEP - last, fold if self._folds else 0)
            end = (position + last) // STEP * STEP + STEP - 1 - last
        else:
            begin, end = max(fold, FEW - last), fold + KNOT
            # The last pass before a fold ends where the fold begins.
            end -= 1 + last if self._folds else 0
        end = max(min(end, self._programs.image.capacity - 1 - last), position)

        def seen(first: int) -> tuple[int, ...]:
            return self._programs.seen([first + row for row in rows])

        stretch, here = range(begin, end + 1), seen(position)
        return stretch[bisect_left(stretch, here, key=seen)], stretch[bisect_right(stretch, here, key=seen) - 1]
