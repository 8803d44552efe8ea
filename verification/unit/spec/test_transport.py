"""The protocol can be checked at run time: a device that lacks something is none."""

import pytest

from tailrace.spec.transport import RegisterByRegister, Transport

MEMBERS = (
    "name",
    "memory_size",
    "simulated",
    "read",
    "write",
    "read_register",
    "read_registers",
    "write_register",
    "wait",
    "close",
)


def device(*left_out: str) -> object:
    return type("Device", (), {name: print for name in MEMBERS if name not in left_out})()


def test_members() -> None:
    assert isinstance(device(), Transport)


@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_is_needed(name: str) -> None:
    assert not isinstance(device(name), Transport)


def test_registers_one_by_one() -> None:
    places = []

    class Device(RegisterByRegister):
        def read_register(self, offset: int) -> int:
            places.append(offset)
            return 1000 + offset

    assert Device().read_registers(0x80, 3) == [1128, 1132, 1136]
    assert places == [0x80, 0x84, 0x88]
