"""The ULX3S: pins and clocks."""

import pytest

from tailrace.hdl.boards import ulx3s
from tailrace.hdl.boards.pll import find_pll

from .conftest import Controllers
from .pins import by_bit, constraints, located
from .without_core import leave_out_core

#: Of the board's constraint file (v20, emard/ulx3s): the signal, and the sites of its bits from bit 0.
SITES = {
    "clk25_0": "G2",
    "button_fire_0": "R1",
    "uart_0__rx": "M1",
    "uart_0__tx": "L4",
    "sdram_0__clk": "F19",
    "sdram_0__clk_en": "F20",
    "sdram_0__cs": "P20",
    "sdram_0__we": "T20",
    "sdram_0__ras": "R20",
    "sdram_0__cas": "T19",
    "sdram_0__ba": "P19 N20",
    "sdram_0__a": "M20 M19 L20 L19 K20 K19 K18 J20 J19 H20 N19 G20 G19",
    "sdram_0__dqm": "U19 E20",
    "sdram_0__dq": "J16 L18 M18 N18 P18 T18 T17 U20 E19 D20 D19 C20 E18 F18 J18 J17",
    **{f"led_{i}": site for i, site in enumerate("B2 C2 C1 D2 D1 E2".split())},
}


def test_pins(monkeypatch: pytest.MonkeyPatch, controllers: Controllers) -> None:
    """Each pad is on the site that the board's makers say, and there are no others."""
    leave_out_core(monkeypatch)
    text = constraints(ulx3s.BOARD, controllers("ulx3s", False))
    assert located(text) == by_bit({f"{signal}__io": sites for signal, sites in SITES.items()})
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in text


def test_default_clock_can_be_made() -> None:
    clock_hz = ulx3s.BOARD.clock_hz
    assert find_pll(ulx3s.INPUT_HZ, clock_hz, ulx3s.SDRAM_DEGREES).output_hz == clock_hz
