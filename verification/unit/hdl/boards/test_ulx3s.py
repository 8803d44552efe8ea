"""The ULX3S: pins, clocks, and its bitstream."""

import re

import pytest

from tailrace.hdl.boards import ulx3s
from tailrace.hdl.boards.litedram import LiteDram
from tailrace.hdl.boards.pll import find_pll
from tailrace.hdl.boards.ulx3s import Ulx3s, clocks_per_bit
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ConfigError

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


def test_pins(monkeypatch: pytest.MonkeyPatch, controller: LiteDram) -> None:
    """Each pad is on the site that the board's makers say, and there are no others."""
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    leave_out_core(monkeypatch)
    plan = ULX3S_85F_Platform().prepare(Ulx3s(CONFIGS["tiny"], controller, 60_000_000), "board")
    constraints = plan.files["board.lpf"]
    text = constraints if isinstance(constraints, str) else constraints.decode()
    found = dict(re.findall(r'LOCATE COMP "(\S+)" SITE "(\w+)";', text))
    expected = {}
    for signal, sites in SITES.items():
        bits = sites.split()
        expected |= {f"{signal}__io" + (f"[{i}]" if len(bits) > 1 else ""): site for i, site in enumerate(bits)}
    assert found == expected
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in text


def test_serial_line() -> None:
    assert clocks_per_bit(60_000_000, 3_000_000) == 20
    assert clocks_per_bit(50_000_000, 2_000_000) == 25
    # 1.96 % off.
    assert clocks_per_bit(50_000_000, 3_000_000) == 17
    for clock_hz, message in (
        (80_000_000, None),
        (55_000_000, None),
        (25_000_000, "3000000 baud can't be made from 25 MHz: choose a multiple of 3 MHz"),
        (1_000_000, "3000000 baud can't be made from 1 MHz: choose a multiple of 3 MHz"),
    ):
        if message is None:
            assert abs(clock_hz / clocks_per_bit(clock_hz, 3_000_000) / 3e6 - 1) <= 0.02
            continue
        with pytest.raises(ConfigError) as error:
            clocks_per_bit(clock_hz, 3_000_000)
        assert str(error.value) == message


def test_default_clock_can_be_made() -> None:
    assert find_pll(ulx3s.INPUT_HZ, ulx3s.CLOCK_HZ, ulx3s.SDRAM_DEGREES).output_hz == ulx3s.CLOCK_HZ
    assert ulx3s.CLOCK_HZ / clocks_per_bit(ulx3s.CLOCK_HZ, ulx3s.BAUD) == ulx3s.BAUD
