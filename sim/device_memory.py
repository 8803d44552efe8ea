"""Memory of simulated devices."""

import mmap

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import HostMemoryError


def device_memory(size: int) -> NDArray[np.uint8]:
    """Memory of so many bytes, all zero; a page that is never touched takes no memory of the host.

    Raises
    ------
    HostMemoryError
        If the host does not give so much.
    """
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, ValueError):
        raise HostMemoryError(size) from None
    return np.frombuffer(pages, dtype=np.uint8)
