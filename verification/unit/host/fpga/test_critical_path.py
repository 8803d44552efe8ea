"""Paths out of nextpnr's report."""

from typing import Any

import pytest

from tailrace.fpga.critical_path import parse_path, signal


def step(kind: str, delay: float, start: tuple[str, str], end: tuple[str, str]) -> dict[str, Any]:
    ends = ({"cell": cell, "port": port, "loc": [1, 2]} for cell, port in (start, end))
    return dict(zip(("from", "to"), ends), type=kind, delay=delay)


FIRST, LUT, LAST = "engine.sum_TRELLIS_FF_Q_3", "engine.total.0_LUT4_Z_1", "engine.total.0_TRELLIS_FF_Q"
PATH = [
    step("clk-to-q", 0.4, (FIRST, "CLK"), (FIRST, "Q")),
    step("routing", 1.5, (FIRST, "Q"), (LUT, "B")),
    step("logic", 0.2, (LUT, "B"), (LUT, "Z")),
    step("routing", 0.5, (LUT, "Z"), (LAST, "DI")),
    step("setup", 0.1, (LAST, "DI"), (LAST, "CLK")),
]
REPORT = {
    "critical_paths": [
        {"from": "<async>", "to": "posedge clk", "path": []},
        {"from": "posedge clk", "to": "posedge clk", "path": PATH},
    ]
}


def test_a_path_is_told_by_signals() -> None:
    path = parse_path(REPORT, "clk")
    assert (path.start, path.end) == ("engine.sum", "engine.total.0")
    assert path.logic == pytest.approx(0.7)
    assert path.routing == pytest.approx(2.0)
    assert path.listing().splitlines() == [
        "engine.sum -> engine.total.0: 0.70 ns logic, 2.00 ns routing",
        "   0.40   0.40 clk-to-q  engine.sum [TRELLIS_FF.Q]",
        "   1.90   1.50 routing   engine.sum [TRELLIS_FF.Q] -> engine.total.0 [LUT4.B]",
        "   2.10   0.20 logic     engine.total.0 [LUT4.B] -> engine.total.0 [LUT4.Z]",
        "   2.60   0.50 routing   engine.total.0 [LUT4.Z] -> engine.total.0 [TRELLIS_FF.DI]",
        "   2.70   0.10 setup     engine.total.0 [TRELLIS_FF.CLK]",
    ]


def test_another_clock_has_no_path() -> None:
    with pytest.raises(ValueError, match="nextpnr reports no path from register to register of clock 'other'"):
        parse_path(REPORT, "other")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("x_TRELLIS_FF_Q_2", "x"),
        ("a.b_LUT4_Z_A_CCU2C_S0", "a.b"),
        ("memory.0.3", "memory.0.3"),
        ("u_LUT4_Z$_COMB", "u"),
        ("my_LUT4S", "my_LUT4S"),
    ],
)
def test_names_end_where_those_of_cells_begin(cell: str, expected: str) -> None:
    assert signal(cell) == expected
