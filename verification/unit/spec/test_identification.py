import pytest

from tailrace.spec.config import CONFIGS
from tailrace.spec.identification import identification
from tailrace.spec.registers import IDENTIFICATION


@pytest.mark.parametrize("name", CONFIGS)
def test_every_register_of_identification_has_a_value(name: str) -> None:
    values = identification(CONFIGS[name])
    assert list(values) == [register.name for register in IDENTIFICATION]
    assert all(0 <= value < 1 << 32 for value in values.values())
