"""Unpacked matrices, kept as long as the memory that they came from does not change."""

import numpy as np
from numpy.typing import NDArray

from .stream import Matrix

#: What identifies an unpacked matrix: address, rows, blocks, number of the format.
Key = tuple[int, int, int, int]

_PAGE = 4096


class MatrixCache:
    """A bounded store of unpacked matrices.

    When it is full it keeps what it has: a decode loop visits its matrices in a circle, where the oldest one is the next
    that is needed. Matrices in pages that the device itself writes (keys, for one) are not kept: they change with every token.

    Parameters
    ----------
    capacity : int
        Bytes that the matrices may occupy.
    memory_size : int
        Bytes of device memory.
    """

    def __init__(self, capacity: int, memory_size: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._entries: dict[Key, tuple[int, Matrix]] = {}
        pages = -(-memory_size // _PAGE)
        #: Pages that may hold a part of a kept matrix, and pages that the device has written.
        self._kept = np.zeros(pages, dtype=bool)
        self._written = np.zeros(pages, dtype=bool)

    def get(self, key: Key) -> Matrix | None:
        """The matrix stored under `key`, if any."""
        entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def put(self, key: Key, end: int, matrix: Matrix) -> None:
        """Store a matrix whose stream lies from ``key[0]`` up to `end`, unless there is no room or the device writes there."""
        pages = _pages(key[0], end)
        if self._used + matrix.nbytes > self._capacity or self._written[pages].any():
            return
        self._kept[pages] = True
        self._entries[key] = end, matrix
        self._used += matrix.nbytes

    def written_by_device(self, addresses: NDArray[np.int64]) -> None:
        """Keep nothing from the pages of these bytes, from now on until the host overwrites them."""
        pages = addresses // _PAGE
        for page in np.unique(pages[~self._written[pages]]).tolist():
            self._written[page] = True
            self._forget(page * _PAGE, (page + 1) * _PAGE)

    def written_by_host(self, start: int, end: int) -> None:
        """Forget what overlaps; pages that are overwritten as a whole are the host's again."""
        self._forget(start, end)
        self._written[-(-start // _PAGE) : end // _PAGE] = False

    def _forget(self, start: int, end: int) -> None:
        """Forget matrices whose stream overlaps the bytes from `start` up to `end`."""
        if not self._kept[_pages(start, end)].any():
            return
        for key in [k for k, (stop, _) in self._entries.items() if k[0] < end and start < stop]:
            self._used -= self._entries.pop(key)[1].nbytes


def _pages(start: int, end: int) -> slice:
    return slice(start // _PAGE, -(-end // _PAGE))
