"""Device memory: aligned, in order, and with a message when it is full."""

import pytest

from tailrace.image.allocator import Allocator, align
from tailrace.spec.errors import LimitError


def test_align() -> None:
    assert [align(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]


def test_allocates_in_order() -> None:
    memory = Allocator(256, start=64)
    assert (memory.allocate(1, "a"), memory.allocate(64, "b"), memory.free) == (64, 128, 128)


def test_full() -> None:
    memory = Allocator(128)
    memory.allocate(100, "a")
    text = "^b needs 1 bytes of device memory, but only 0 of 128 are free: use a device with more memory or a smaller model$"
    with pytest.raises(LimitError, match=text):
        memory.allocate(1, "b")
