"""Rows of a matrix that are made when they are asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BYTES = np.dtype(np.uint8)


class LazyRows:
    """What is needed of an array of shape (rows, items of a row), whose rows are made when they are taken.

    Parameters
    ----------
    rows, size : int
        Rows, and items of each.
    make : callable
        Takes the numbers of rows; returns them, shape (numbers, `size`).
    dtype : dtype
        Of the items.
    """

    def __init__(
        self, rows: int, size: int, make: Callable[[NDArray[np.int64]], NDArray[Any]], dtype: np.dtype[Any] = _BYTES
    ) -> None:
        self.shape, self.dtype, self.nbytes = (rows, size), dtype, rows * size * dtype.itemsize
        self._make = make

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return self._make(np.arange(self.shape[0])[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:]

    def reshape(self, *shape: int) -> Any:
        """The same where the shape is; else an array."""
        return self if shape in (self.shape, (self.shape[0], -1)) else self[:].reshape(*shape)
