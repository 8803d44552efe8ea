"""Named places in a memory of the device: the activation buffer, or the blocks of the vector slots."""

from collections.abc import Iterator
from contextlib import contextmanager

from tailrace.spec.errors import LimitError
from tailrace.spec.isa import BUFFER_UNIT


class RegionMap:
    """Hands out regions one after the other; those of a phase are given back at its end.

    Parameters
    ----------
    size : int
        Entries, or blocks, that the memory has.
    unit : int
        What regions start at a multiple of.
    memory : str
        What the memory is called in messages.
    parameter : str
        The parameter of a configuration that makes it larger.
    """

    def __init__(self, size: int, unit: int, memory: str, parameter: str) -> None:
        self._size, self._unit, self._memory, self._parameter = size, unit, memory, parameter
        self._used: list[tuple[str, int, int]] = []
        self._next = 0

    @property
    def free(self) -> int:
        """Entries that are left."""
        return self._size - self._next

    def allocate(self, name: str, entries: int) -> int:
        """Reserve a region.

        Returns
        -------
        int
            Its first entry.

        Raises
        ------
        LimitError
            If it does not fit, with what holds the room, and the parameter of the build that sets it.
        """
        first, end = self._next, self._next + -(-entries // self._unit) * self._unit
        if end > self._size:
            held = ", ".join(f"{other} {stop - start}" for other, start, stop in self._used if stop <= first)
            raise LimitError(
                f"the {self._memory} has no room for {name}: {entries} needed, {self.free} of {self._size} left"
                + (f" beside {held}" if held else "")
                + f": it is as large as the build's {self._parameter}"
            )
        self._used.append((name, first, end))
        self._next = end
        return first

    def mark(self) -> int:
        """Where the next region would start."""
        return self._next

    @contextmanager
    def over(self, mark: int) -> Iterator[None]:
        """Let what is allocated inside take the place of what has been allocated since `mark`, too."""
        end, self._next = self._next, mark
        yield
        self._next = max(end, self._next)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Give back what was allocated inside if something does not fit."""
        end, count = self._next, len(self._used)
        try:
            yield
        except LimitError:
            self._next = end
            del self._used[count:]
            raise

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Give back at the end what was allocated inside."""
        mark, count = self._next, len(self._used)
        yield
        self._next = mark
        del self._used[count:]


def buffer_map(entries: int) -> RegionMap:
    """Map the activation buffer."""
    return RegionMap(entries, BUFFER_UNIT, "activation buffer", "buffer_entries")


def slot_map(blocks: int) -> RegionMap:
    """Map the blocks of a vector slot; all slots are used alike."""
    return RegionMap(blocks, 1, "vector slot", "vector_blocks")
