"""Fixtures for files that may be anything."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

Limit = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def at_most() -> Limit:
    """A context in which at most so many bytes may be allocated at a time."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        tracemalloc.start()
        try:
            yield
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= size

    return limit
