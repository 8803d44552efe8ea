"""Levels of logic between registers."""

from graphlib import CycleError
from typing import Any

import pytest

from tailrace.fpga.levels import logic_levels


def cell(kind: str, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], **parameters: str) -> dict[str, Any]:
    directions = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    return {"type": kind, "port_directions": directions, "connections": inputs | outputs, "parameters": parameters}


def chain(kind: str, **parameters: str) -> dict[str, Any]:
    """A register, a LUT, a cell of `kind`, a LUT, a register."""
    return {
        "first": cell("TRELLIS_FF", {"DI": [9]}, {"Q": [1]}),
        "a": cell("LUT4", {"A": [1], "B": ["0"]}, {"Z": [2]}),
        "middle": cell(kind, {"ADDRA": [2]}, {"O": [3]}, **parameters),
        "b": cell("LUT4", {"A": [3]}, {"Z": [4]}),
        "last": cell("TRELLIS_FF", {"DI": [4]}, {"Q": [5]}),
    }


@pytest.mark.parametrize(
    ("kind", "parameters", "levels"),
    [
        ("CCU2C", {}, 3),
        ("TRELLIS_FF", {}, 1),
        ("DP16KD", {}, 1),
        ("RAM32M", {}, 3),
        ("MULT18X18D", {}, 3),
        ("MULT18X18D", {"REG_OUTPUT_CLK": "CLK0"}, 1),
        ("DSP48E1", {"PREG": "0" * 32}, 3),
        ("DSP48E1", {"PREG": "0" * 31 + "1"}, 1),
    ],
)
def test_levels_are_counted_between_registers(kind: str, parameters: dict[str, str], levels: int) -> None:
    assert logic_levels(chain(kind, **parameters)) == levels


def test_writing_distributed_ram_is_no_way_through_it() -> None:
    cells = chain("CCU2C")
    cells["middle"] = cell("TRELLIS_DPR16X4", {"DI": [2], "WAD": [2], "RAD": [7]}, {"DO": [3]})
    # The read of it, and the LUT behind it.
    assert logic_levels(cells) == 2


def test_a_carry_chain_is_one_level() -> None:
    cells = chain("CCU2C")
    cells["middle"] = cell("CCU2C", {"A0": [2]}, {"COUT": [11]})
    cells["more"] = cell("CCU2C", {"CIN": [11]}, {"COUT": [12]})
    cells["most"] = cell("CCU2C", {"CIN": [12]}, {"S0": [3]})
    assert logic_levels(cells) == 3


def test_a_circle_is_refused() -> None:
    with pytest.raises(CycleError):
        logic_levels({"a": cell("LUT4", {"A": [1]}, {"Z": [2]}), "b": cell("LUT4", {"A": [2]}, {"Z": [1]})})


def test_nothing_has_no_levels() -> None:
    assert logic_levels({}) == 0
