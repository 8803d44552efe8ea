"""Device memory: what is in it for good from the bottom up, and what one run needs above that."""

from tailrace.spec.errors import LimitError
from tailrace.spec.vector import ALIGNMENT


def align(size: int, unit: int = ALIGNMENT) -> int:
    """The next multiple of 64, which all addresses of the device must be; or of another unit."""
    return -(-size // unit) * unit


class Allocator:
    """Hands out device memory in order.

    Parameters
    ----------
    size : int
        Bytes of memory, from `start` on.
    start : int
        First address, a multiple of 64.
    unit : int
        What addresses are multiples of.
    """

    def __init__(self, size: int, start: int = 0, unit: int = ALIGNMENT) -> None:
        self.end = start + size
        self.top, self._unit = align(start, unit), unit

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return max(self.end - self.top, 0)

    def allocate(self, size: int, purpose: str) -> int:
        """Address of `size` fresh bytes, a multiple of the unit.

        Raises
        ------
        LimitError
            If they do not fit.
        """
        self.check(size, purpose)
        address, self.top = self.top, self.top + align(size, self._unit)
        return address

    def check(self, size: int, purpose: str) -> None:
        """Check that `size` bytes are left.

        Raises
        ------
        LimitError
            If they are not.
        """
        if align(size, self._unit) > self.free:
            raise LimitError(
                f"{purpose} needs {size} bytes of device memory, but only {self.free} of {self.end} are free:"
                " use a device with more memory or a smaller model"
            )
