"""Unpacked matrices, kept as long as the memory that they came from does not change."""

from .stream import Matrix

#: What identifies an unpacked matrix: address, rows, blocks, number of the format.
Key = tuple[int, int, int, int]


class MatrixCache:
    """A bounded store of unpacked matrices.

    When it is full it keeps what it has: a decode loop visits its matrices in a circle, where the oldest one is the next
    that is needed.

    Parameters
    ----------
    capacity : int
        Bytes that the matrices may occupy.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._entries: dict[Key, tuple[int, Matrix]] = {}
        self._low, self._high = 0, 0

    def get(self, key: Key) -> Matrix | None:
        """The matrix stored under `key`, if any."""
        entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def put(self, key: Key, end: int, matrix: Matrix) -> None:
        """Store a matrix whose stream lies from ``key[0]`` up to `end`, if there is room."""
        if self._used + matrix.nbytes > self._capacity:
            return
        self._low, self._high = (min(self._low, key[0]), max(self._high, end)) if self._entries else (key[0], end)
        self._entries[key] = end, matrix
        self._used += matrix.nbytes

    def invalidate(self, start: int, end: int) -> None:
        """Forget matrices whose stream overlaps the bytes from `start` up to `end`."""
        if start >= self._high or end <= self._low:
            return
        for key in [k for k, (stop, _) in self._entries.items() if k[0] < end and start < stop]:
            self._used -= self._entries.pop(key)[1].nbytes
