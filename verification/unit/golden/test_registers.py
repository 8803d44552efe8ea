import pytest

from tailrace.golden.registers import ProgramRegisters
from tailrace.spec.isa import SetMode


def fields(**values: int) -> dict[str, int]:
    return {"register": 5, "mode": 0, "x": 0, "y": 0, "factor": 0, "addend": 0, "shift": 0, "limit": 0} | values


def test_arguments() -> None:
    assert ProgramRegisters(range(1, 9)).values == [0] * 16 + list(range(1, 9)) + [0] * 8


@pytest.mark.parametrize(
    ("values", "result"),
    [
        ({"addend": 7}, 7),
        ({"x": 16, "factor": 3, "y": 17, "addend": 100}, 1000 * 3 + 30 + 100),
        ({"x": 16, "factor": 0xFFFF_FFFF, "addend": 0}, 0xFFFF_FFFF * 1000 & 0xFFFF_FFFF),
        ({"x": 16, "factor": 1, "shift": 3}, 125),
        ({"x": 16, "factor": 1 << 30, "addend": 12, "shift": 2}, 3),
        ({"addend": 7, "mode": SetMode.MINIMUM, "limit": 7}, 7),
        ({"addend": 8, "mode": SetMode.MINIMUM, "limit": 7}, 7),
        ({"addend": 6, "mode": SetMode.WRAP, "limit": 7}, 6),
        ({"addend": 7, "mode": SetMode.WRAP, "limit": 7}, 0),
        ({"addend": 7, "mode": SetMode.PLAIN, "limit": 3}, 7),
    ],
)
def test_set(values: dict[str, int], result: int) -> None:
    registers = ProgramRegisters([1000, 30, *[0] * 6])
    registers.set(fields(**values))
    assert registers.values[5] == result


def test_register_zero_stays_zero() -> None:
    registers = ProgramRegisters([0] * 8)
    registers.set(fields(register=0, addend=7))
    assert registers.values[0] == 0
    assert not registers.count_down(0)


def test_count_down() -> None:
    registers = ProgramRegisters([3, *[0] * 7])
    assert [registers.count_down(16) for _ in range(4)] == [True, True, False, True]
    assert registers.values[16] == 0xFFFF_FFFF
