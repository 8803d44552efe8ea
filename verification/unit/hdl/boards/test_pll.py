"""Settings of the PLL."""

import pytest

from tailrace.hdl.boards.pll import DETECTOR_HZ, OSCILLATOR_HZ, find_pll
from tailrace.spec.errors import ConfigError


@pytest.mark.parametrize("degrees", [0, 45, 90, 180, 315])
@pytest.mark.parametrize("megahertz", [25, 40, 45, 50, 60, 62.5, 75, 80, 100, 125])
def test_frequency_and_phase_are_exact(megahertz: float, degrees: int) -> None:
    wanted = int(megahertz * 1e6)
    pll = find_pll(25_000_000, wanted, degrees)
    cell = pll.parameters
    made = 25_000_000 / cell["CLKI_DIV"] * cell["CLKFB_DIV"]
    assert made == wanted == pll.output_hz
    assert DETECTOR_HZ[0] <= 25_000_000 / cell["CLKI_DIV"] <= DETECTOR_HZ[1]
    assert OSCILLATOR_HZ[0] <= made * cell["CLKOP_DIV"] == pll.oscillator_hz <= OSCILLATOR_HZ[1]
    assert cell["CLKOS_DIV"] == cell["CLKOP_DIV"]
    later = cell["CLKOS_CPHASE"] - cell["CLKOP_CPHASE"] + (cell["CLKOS_FPHASE"] - cell["CLKOP_FPHASE"]) / 8
    assert later * 360 / cell["CLKOS_DIV"] == pytest.approx(degrees, abs=1e-9)
    assert pll.degrees == pytest.approx(degrees)
    assert all(0 <= cell[name] <= 127 for name in ("CLKOP_CPHASE", "CLKOS_CPHASE"))
    assert all(0 <= cell[name] <= 7 for name in ("CLKOP_FPHASE", "CLKOS_FPHASE"))


def test_60_megahertz_of_the_ulx3s() -> None:
    assert find_pll(25_000_000, 60_000_000, 90).parameters == {
        "FEEDBK_PATH": "CLKOP",
        "CLKI_DIV": 5,
        "CLKFB_DIV": 12,
        "CLKOP_ENABLE": "ENABLED",
        "CLKOP_DIV": 10,
        "CLKOP_CPHASE": 9,
        "CLKOP_FPHASE": 0,
        "CLKOS_ENABLE": "ENABLED",
        "CLKOS_DIV": 10,
        "CLKOS_CPHASE": 11,
        "CLKOS_FPHASE": 4,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (25_000_000, 48_000_000, 90),
            "an ECP5's PLL can't make 48 MHz with a phase of 90 degrees from 25 MHz: choose a multiple of 5 MHz",
        ),
        (
            (25_000_000, 50_000_000, 7),
            "an ECP5's PLL can't make 50 MHz with a phase of 7 degrees from 25 MHz: choose a multiple of 5 MHz",
        ),
        ((5_000_000, 50_000_000, 0), "an ECP5's PLL takes 8 to 400 MHz, not 5 MHz"),
        ((25_000_000, 50_000_000, 360), "a phase must be 0 to 359 degrees, not 360"),
    ],
)
def test_what_can_not_be_made(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_pll(*arguments)
    assert str(error.value) == message
