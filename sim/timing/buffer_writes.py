"""The activation buffer's write port, which the matrix unit has first."""

from collections import deque


class BufferWrites:
    """When words of the vector unit are written, between the results of products.

    The results of a product count as spread evenly over the time in which they are written.
    """

    #: Products that may still be at work while an operation of the vector unit is looked at.
    _PRODUCTS = 24

    def __init__(self) -> None:
        self._products: deque[tuple[float, float, float]] = deque(maxlen=self._PRODUCTS)

    def add(self, first: float, last: float, words: int) -> None:
        """A product writes so many words from a cycle up to another one."""
        self._products.append((first, last, min(words / (last - first + 1), 1.0)))

    def last(self, first: float, words: int, gap: int = 1) -> float:
        """When the last of some words is written that come from a cycle on, one in so many cycles."""
        if gap == 1:
            return self._one_a_cycle(first, words)
        written = first - 1
        for n in range(words):
            written = self._one_a_cycle(max(first + n * gap, written + 1), 1)
        return written

    def _one_a_cycle(self, first: float, words: float) -> float:
        cycle = first
        for start, end, density in self._products:
            if end < cycle or not words:
                continue
            # Before the product, one in each cycle.
            before = min(max(start - cycle, 0.0), words)
            cycle, words = cycle + before, words - before
            if words:
                free = (end + 1 - cycle) * (1 - density)
                if free >= words:
                    return cycle + words / (1 - density) - 1
                cycle, words = end + 1, words - free
        return cycle + words - 1

    def shift(self, cycles: float) -> None:
        """Everything happens so much later."""
        self._products = deque(((a + cycles, b + cycles, density) for a, b, density in self._products), maxlen=self._PRODUCTS)
