"""Rows of a matrix that are made when they are asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class LazyRows:
    """What is needed of an array of bytes of shape (rows, bytes of a row), whose rows are made one call after the other.

    Parameters
    ----------
    rows, size : int
        Rows, and bytes of each.
    make : callable
        Takes the numbers of rows; returns their bytes, shape (numbers, `size`).
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, rows: int, size: int, make: Callable[[NDArray[np.int64]], Bytes]) -> None:
        self.shape, self.nbytes = (rows, size), rows * size
        self._make = make

    def __getitem__(self, index: Any) -> Bytes:
        return self._make(np.arange(self.shape[0])[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Bytes:
        return self[:]

    def reshape(self, *shape: int) -> Any:
        """The same where the shape is; else an array."""
        return self if shape in (self.shape, (self.shape[0], -1)) else self[:].reshape(*shape)
