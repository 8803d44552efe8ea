"""The ECPIX-5: pins."""

import re

import pytest

from tailrace.hdl.boards import ecpix5

from .conftest import Controllers
from .pins import by_bit, constraints, located
from .without_core import leave_out_core

#: Of LiteX's description of the board (litex-boards, platforms/lambdaconcept_ecpix5.py), but for the reset, which is another
#: button there: the signal, and the sites of its bits from bit 0.
SITES = {
    "clk100_0__io": "K23",
    "rst_0__io": "AB1",
    "uart_0__rx__io": "R26",
    "uart_0__tx__io": "R24",
    "ddr3_0__a__io": "T5 M3 L3 V6 K2 W6 K3 L1 H2 L2 N1 J1 M1 K1 H1",
    "ddr3_0__ba__io": "U6 N3 N4",
    "ddr3_0__ras__io": "T3",
    "ddr3_0__cas__io": "P2",
    "ddr3_0__we__io": "R3",
    "ddr3_0__dm__io": "U4 U1",
    "ddr3_0__dq__io": "T4 W4 R4 W5 R6 P6 P5 P4 R1 W3 T2 V3 U3 W1 T1 W2",
    "ddr3_0__dqs__p": "V4 V1",
    "ddr3_0__clk__p": "H3",
    "ddr3_0__clk_en__io": "P1",
    "ddr3_0__odt__io": "P3",
    **{
        f"rgb_led_{number}__{colour}__io": site
        for number, sites in enumerate(("T23 R21 T22", "U21 W21 T24", "K21 K24 M21", "P21 R23 P22"))
        for colour, site in zip("rgb", sites.split(), strict=True)
    },
}


def test_pins(monkeypatch: pytest.MonkeyPatch, controllers: Controllers) -> None:
    """Each pad is on the site that LiteX says, with the same electrical settings, and there are no others."""
    leave_out_core(monkeypatch)
    text = constraints(ecpix5.BOARD, controllers("ecpix5", False))
    assert located(text) == by_bit(SITES)
    assert 'FREQUENCY PORT "clk100_0__io" 100000000.0 HZ;' in text
    settings = dict(re.findall(r'IOBUF PORT "ddr3_0__(\S+)" (.+);', text))
    assert len(settings) == 15 + 3 + 3 + 2 + 16 + 2 + 1 + 2
    for pad, setting in settings.items():
        expected = {"SLEWRATE=FAST", "IO_TYPE=SSTL15D_I" if pad.startswith(("dqs", "clk__")) else "IO_TYPE=SSTL15_I"}
        expected |= {"TERMINATION=75"} if pad.startswith("dq_") else set()
        expected |= {"TERMINATION=OFF", "DIFFRESISTOR=100"} if pad.startswith("dqs") else set()
        assert set(setting.split()) == expected, pad


def test_lamps_do_not_meet() -> None:
    lamps = (*ecpix5.LAMPS, *ecpix5.FAILURES)
    assert len(set(lamps)) == len(lamps)
    assert len(ecpix5.FAILURES) == ecpix5.DDR3.lanes
