"""Scores of attention that grow with the position of the query."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Growth:
    """What scores are multiplied with at each position, in models that see further than they were first trained for.

    At position ``p`` that is ``scale * (1 + rate * log(1 + floor((p + ahead) / period)))``. Models multiply queries with it,
    which is the same. Sources: Llama 4, Ministral 3.

    Attributes
    ----------
    scale : float
        What scores are multiplied with before they grow.
    rate : float
    period : int
        Positions from one step to the next.
    ahead : int
        How many positions earlier each step comes.
    """

    scale: float
    rate: float
    period: int
    ahead: int = 0

    #: Columns of the table.
    size = 2

    def table(self, first: int, count: int) -> NDArray[np.float32]:
        """The factors of `count` positions from `first` on, and their negatives.

        Returns
        -------
        ndarray of float32, shape (count, 2)
            Rounded from float64.
        """
        steps = (np.arange(first, first + count) + self.ahead) // self.period
        factors = self.scale * (1.0 + self.rate * np.log1p(steps))
        return np.stack([factors, -factors], axis=1).astype(np.float32)
