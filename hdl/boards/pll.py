"""Settings of an ECP5's PLL (EHXPLLL)."""

from dataclasses import dataclass

from tailrace.spec.errors import ConfigError

#: Limits in Hz: the input; the phase detector; the oscillator (Lattice FPGA-DS-02012, "sysCLOCK PLL timing").
INPUT_HZ, DETECTOR_HZ, OSCILLATOR_HZ = (8_000_000, 400_000_000), (3_125_000, 400_000_000), (400_000_000, 800_000_000)
#: Highest divider.
_DIVIDERS = 128
#: Steps of the phase in a cycle of the oscillator.
_STEPS = 8


@dataclass(frozen=True)
class Pll:
    """Dividers. Fed back from CLKOP, so that ``CLKOP = input * feedback / reference`` and ``oscillator = CLKOP * output``.

    Attributes
    ----------
    input_hz : int
    reference, feedback, output : int
        The names of Lattice are CLKI_DIV, CLKFB_DIV, and CLKOP_DIV and CLKOS_DIV.
    steps : int
        By how many eighths of an oscillator's cycle CLKOS is later than CLKOP.
    """

    input_hz: int
    reference: int
    feedback: int
    output: int
    steps: int

    @property
    def output_hz(self) -> float:
        """Frequency of CLKOP and CLKOS."""
        return self.input_hz * self.feedback / self.reference

    @property
    def oscillator_hz(self) -> float:
        """Frequency of the oscillator."""
        return self.output_hz * self.output

    @property
    def degrees(self) -> float:
        """Phase of CLKOS."""
        return 360 * self.steps / (_STEPS * self.output)

    @property
    def parameters(self) -> dict[str, int | str]:
        """Parameters of the cell."""
        # At this value an output rises with the input.
        zero = self.output - 1
        coarse, fine = divmod(self.steps, _STEPS)
        return {
            "FEEDBK_PATH": "CLKOP",
            "CLKI_DIV": self.reference,
            "CLKFB_DIV": self.feedback,
            "CLKOP_ENABLE": "ENABLED",
            "CLKOP_DIV": self.output,
            "CLKOP_CPHASE": zero,
            "CLKOP_FPHASE": 0,
            "CLKOS_ENABLE": "ENABLED",
            "CLKOS_DIV": self.output,
            "CLKOS_CPHASE": zero + coarse,
            "CLKOS_FPHASE": fine,
        }


def find_pll(input_hz: int, output_hz: int, degrees: int) -> Pll:
    """Find settings that give exactly a frequency and a phase.

    Of several, those with the fastest phase detector are taken, which means the least jitter, and then those whose oscillator
    is nearest to the middle of its range.

    Parameters
    ----------
    input_hz, output_hz : int
    degrees : int
        By how much CLKOS is later than CLKOP; 0 to 359.

    Raises
    ------
    ConfigError
        If there are none.
    """
    if not INPUT_HZ[0] <= input_hz <= INPUT_HZ[1]:
        raise ConfigError(f"an ECP5's PLL takes {INPUT_HZ[0] / 1e6:g} to {INPUT_HZ[1] / 1e6:g} MHz, not {input_hz / 1e6:g} MHz")
    if not 0 <= degrees < 360:
        raise ConfigError(f"a phase must be 0 to 359 degrees, not {degrees}")
    middle = sum(OSCILLATOR_HZ) / 2
    for reference in range(1, _DIVIDERS + 1):
        feedback, left = divmod(output_hz * reference, input_hz)
        if left or not 1 <= feedback <= _DIVIDERS or not DETECTOR_HZ[0] <= input_hz / reference <= DETECTOR_HZ[1]:
            continue
        fits = [
            output
            for output in range(1, _DIVIDERS + 1)
            if OSCILLATOR_HZ[0] <= output_hz * output <= OSCILLATOR_HZ[1] and degrees * _STEPS * output % 360 == 0
        ]
        if fits:
            output = min(fits, key=lambda divider: abs(output_hz * divider - middle))
            return Pll(input_hz, reference, feedback, output, degrees * _STEPS * output // 360)
    raise ConfigError(
        f"an ECP5's PLL can't make {output_hz / 1e6:g} MHz with a phase of {degrees} degrees from {input_hz / 1e6:g} MHz:"
        f" choose a multiple of {input_hz / 5e6:g} MHz"
    )
