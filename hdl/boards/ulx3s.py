"""The ULX3S-85F: an ECP5 of 85k LUTs with 32 MB of SDRAM and a serial port on USB, by Radiona and EMARD."""

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from tailrace.spec.config import Config

from .board import Board
from .board_top import BoardTop, read_pin
from .dram import Dram
from .litedram import LiteDram
from .pll import Pll, find_pll

#: The oscillator on the board.
INPUT_HZ = 25_000_000
#: How late the memory's clock is, in degrees. Outputs change at 0, so the memory has a quarter of a cycle of setup time, and
#: three quarters of hold time; what it answers within 6 ns after its clock is taken at 360.
SDRAM_DEGREES = 90
#: What LiteX itself takes for this board. Its rows and columns are those of each memory that the board was made with, and its
#: timing the most careful of them.
SDRAM = Dram("MT48LC16M16", "SDR", "GENSDRPHY", "LFE5U-85F-6BG381C", lanes=2)


class Ulx3s(BoardTop):
    """The top level: clocks, reset and pins around `System`.

    Button FIRE1 is the reset. The lamps D0 to D5 are those of `system.LEDS`.

    Parameters
    ----------
    config : Config
    controller : LiteDram
    clock_hz : int

    Raises
    ------
    ConfigError
        If the clock can't be made, or the serial line's rate can't be made from it.
    """

    def __init__(self, config: Config, controller: LiteDram, clock_hz: int) -> None:
        super().__init__(config, controller, clock_hz)
        self._pll = find_pll(INPUT_HZ, clock_hz, SDRAM_DEGREES)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains.sdram = ClockDomain(reset_less=True)
        clock, reset = read_pin(m, platform, "clk25"), read_pin(m, platform, "button_fire")
        locked = _clocks(m, self._pll, clock)
        m.submodules.reset = ResetSynchronizer(~locked | reset)

        sdram = platform.request("sdram", 0, dir="-")
        # The memory's clock leaves through a register like its data does, so both are late by the same time.
        m.submodules.sdram_clock = sdram_clock = io.DDRBuffer("o", sdram.clk, o_domain="sdram")
        m.d.comb += [sdram_clock.o[0].eq(1), sdram_clock.o[1].eq(0)]

        system = self.join_system(
            m,
            platform,
            {
                "sdram_a": sdram.a.io,
                "sdram_ba": sdram.ba.io,
                "sdram_cas_n": sdram.cas.io,
                "sdram_cke": sdram.clk_en.io,
                "sdram_cs_n": sdram.cs.io,
                "sdram_dm": sdram.dqm.io,
                "sdram_dq": sdram.dq.io,
                "sdram_ras_n": sdram.ras.io,
                "sdram_we_n": sdram.we.io,
            },
        )
        for index, lit in enumerate(system.leds):
            m.submodules[f"led_{index}"] = led = io.Buffer("o", platform.request("led", index, dir="-"))
            m.d.comb += led.o.eq(lit)
        return m


def _clocks(m: Module, pll: Pll, clock: Any) -> Signal:
    """Make the clocks of both domains; return whether they are steady."""
    system, memory, locked = Signal(name="system_clock"), Signal(name="memory_clock"), Signal()
    m.submodules.pll = Instance(
        "EHXPLLL",
        # What the vendor's tool writes for the loop filter.
        *(("a", name, value) for name, value in _LOOP_FILTER.items()),
        *(("p", name, value) for name, value in pll.parameters.items()),
        *(("i", name, Const(0, 1)) for name in ("RST", "STDBY", "PHASESEL0", "PHASESEL1", "PHASEDIR", "PHASESTEP")),
        ("i", "CLKI", clock),
        ("i", "CLKFB", system),
        ("o", "CLKOP", system),
        ("o", "CLKOS", memory),
        ("o", "LOCK", locked),
    )
    m.d.comb += [ClockSignal("sync").eq(system), ClockSignal("sdram").eq(memory)]
    return locked


_LOOP_FILTER = {"ICP_CURRENT": "12", "LPF_RESISTOR": "8", "MFG_ENABLE_FILTEROPAMP": "1", "MFG_GMCREF_SEL": "2"}

#: The baud rate is the fastest that the board's FT231X can do.
BOARD = Board("ulx3s", "ulx3s:ULX3S_85F_Platform", Ulx3s, SDRAM, clock_hz=60_000_000)
