"""The activation buffer: float32 entries, with offsets that wrap around."""

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from .floats import Floats, canonical

Bits = NDArray[np.uint32]


class ActivationBuffer:
    """Bits of the entries. Segments of a vector are `count` entries each, `stride` entries apart.

    Parameters
    ----------
    entries : int

    Attributes
    ----------
    bits : ndarray of uint32, shape (entries,)
    """

    def __init__(self, entries: int) -> None:
        self.bits: Bits = np.zeros(entries, dtype=np.uint32)

    def _window(self, first: int, stride: int, segments: int, count: int) -> Bits | None:
        """A view of the segments, if they do not wrap around."""
        size = len(self.bits)
        first %= size
        if first + (segments - 1) * stride + count > size:
            return None
        if segments == 1:
            return self.bits[first : first + count].reshape(1, count)
        return as_strided(self.bits[first:], (segments, count), (4 * stride, 4))

    def _places(self, first: int, stride: int, segments: int, count: int) -> NDArray[np.int64]:
        return (first + stride * np.arange(segments)[:, None] + np.arange(count)) % len(self.bits)

    def read_bits(self, first: int, stride: int, segments: int, count: int) -> Bits:
        """Bits of entries, shape (segments, count); to be used before the next write."""
        window = self._window(first, stride, segments, count)
        return self.bits[self._places(first, stride, segments, count)] if window is None else window

    def read(self, first: int, stride: int, segments: int, count: int) -> Floats:
        """Entries as canonical numbers, shape (segments, count)."""
        return canonical(self.read_bits(first, stride, segments, count).view(np.float32))

    def write(self, first: int, stride: int, values: NDArray[np.generic]) -> None:
        """Write float32 numbers or their bits, shape (segments, count). Where segments overlap, the last one stays."""
        segments, count = values.shape
        bits = np.ascontiguousarray(values).view(np.uint32)
        window = self._window(first, stride, segments, count) if segments == 1 or stride >= count else None
        if window is not None:
            window[...] = bits
        elif segments == 1 or stride >= count:
            self.bits[self._places(first, stride, segments, count)] = bits
        else:
            for segment, row in enumerate(bits):
                self.write(first + segment * stride, 0, row[None])
