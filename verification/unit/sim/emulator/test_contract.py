"""That the header for C++ says what the contract says."""

import re

import pytest

from tailrace.sim.emulator.contract import LIMITS, PARAMETERS, build_values, header
from tailrace.spec import floats
from tailrace.spec.commands import limits
from tailrace.spec.config import CONFIGS
from tailrace.spec.formats import FORMATS
from tailrace.spec.isa import FIELDS, Opcode


def test_every_field_of_every_command():
    text = header()
    for opcode in Opcode:
        part = re.search(rf"namespace {opcode.name.lower()} {{\n(.*?)\n}}", text, re.DOTALL)
        assert part is not None
        for f in FIELDS[opcode]:
            line = f"constexpr Field {f.name}_{{{f.word}, {f.low}, {f.width}, {str(f.signed).lower()}}};"
            assert (line in part[1]) == (f.name != "opcode")


def test_tables():
    text = header()
    assert all(f"  // {f.name}\n" in text for f in FORMATS)
    rows = re.search(r"TABLE\[\] = {\n(.*?)\n};", text, re.DOTALL)
    assert rows is not None
    found = [[int(c) for c in re.findall(r"-?\d+", line)] for line in rows[1].splitlines()]
    assert found == floats.TABLE.tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_of_a_build(name: str):
    config = CONFIGS[name]
    values = build_values(config)
    assert values[: len(LIMITS)] == list(limits(config).values())
    assert dict(zip(PARAMETERS, values[len(LIMITS) :], strict=True))["buffer_entries"] == config.buffer_entries
