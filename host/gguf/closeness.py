"""How close two sets of numbers are, and how close what was quantised is to what it was made of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import Format

#: By the bits of a code: how far a matrix may be from what it was quantised from, of the root mean square of its rows. What
#: quantisers leave is at most half of it; two different models are further apart than 1.
_BOUNDS = {8: 0.05, 6: 0.1, 5: 0.15, 4: 0.3}
#: The same for plain numbers, of which one side may have been rounded to bfloat16.
_PLAIN_BOUND = 2.0**-7
_TINY = 1e-30


def quantisation_bound(fmt: Format | None) -> float:
    """The largest `distance` that a format explains; None: plain numbers."""
    return _PLAIN_BOUND if fmt is None else _BOUNDS[4 * fmt.nibble_beats + fmt.high_bits]


def distance(reference: NDArray[Any], numbers: NDArray[Any]) -> float:
    """Root mean square of a difference, as a part of that of the reference."""
    return _root_mean_square(reference - numbers) / max(_root_mean_square(reference), _TINY)


def _root_mean_square(numbers: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(numbers, dtype=np.float64))))
