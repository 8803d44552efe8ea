"""The protocol can be checked at run time: a device that lacks something is none."""

import pytest

from tailrace.spec.transport import Transport

MEMBERS = ("name", "memory_size", "simulated", "read", "write", "read_register", "write_register", "wait", "close")


def device(*left_out: str) -> object:
    return type("Device", (), {name: print for name in MEMBERS if name not in left_out})()


def test_members() -> None:
    assert isinstance(device(), Transport)


@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_is_needed(name: str) -> None:
    assert not isinstance(device(name), Transport)
