"""The ECPIX-5 85F: an ECP5-5G of 85k LUTs with 512 MB of DDR3 and a serial port on USB, by LambdaConcept."""

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import io

from .board import Board
from .board_top import BoardTop, read_pin
from .dram import Dram

#: The pads that are missing are tied on the board (select and reset), or driven by the buffer of their partner.
DDR3 = Dram(
    "MT41K256M16",
    "DDR3",
    "ECP5DDRPHY",
    "LFE5UM5G-85F-8BG554C",
    lanes=2,
    unwired=("ddram_clk_n", "ddram_cs_n", "ddram_dqs_n", "ddram_reset_n"),
    oscillator_hz=100_000_000,
    # tRFC of a DDR3 of 4 Gb (JESD79-3F); at its fastest clock LiteDRAM's 208 clocks are the same.
    refresh_ns=260,
    # A port alone waits for each new row.
    core_ports=("core_0", "core_1"),
    # 32 MiB.
    model_rows=2048,
)
#: For each of `system.LEDS`: the number of a lamp of three colours, and the colour.
LAMPS = ((0, "g"), (1, "g"), (2, "g"), (2, "b"), (0, "b"), (0, "r"))
#: For each byte lane of the memory whose reads can't be aligned.
FAILURES = ((1, "r"), (1, "b"))


class Ecpix5(BoardTop):
    """The top level: pins around `System`, whose clock is made by the memory controller from the board's.

    Parameters
    ----------
    config : Config
    controller : LiteDram
    clock_hz : int
        The clock that the controller makes.

    Raises
    ------
    ConfigError
        If the serial line's rate can't be made from the clock.
    """

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        clock, reset = Signal(name="system_clock"), Signal(name="system_reset")
        m.d.comb += [ClockSignal().eq(clock), ResetSignal().eq(reset)]
        oscillator, button = read_pin(m, platform, "clk100"), read_pin(m, platform, "rst")
        ddr3 = platform.request("ddr3", 0, dir="-")
        system = self.join_system(
            m,
            platform,
            {
                "clk": oscillator,
                "rst": button,
                "user_clk": clock,
                "user_rst": reset,
                "ddram_a": ddr3.a.io,
                "ddram_ba": ddr3.ba.io,
                "ddram_cas_n": ddr3.cas.io,
                "ddram_cke": ddr3.clk_en.io,
                "ddram_clk_p": ddr3.clk.p,
                "ddram_dm": ddr3.dm.io,
                "ddram_dq": ddr3.dq.io,
                "ddram_dqs_p": ddr3.dqs.p,
                "ddram_odt": ddr3.odt.io,
                "ddram_ras_n": ddr3.ras.io,
                "ddram_we_n": ddr3.we.io,
            },
        )
        lit = {**dict(zip(LAMPS, system.leds, strict=True)), **dict(zip(FAILURES, system.memory_failed, strict=True))}
        for number in range(4):
            lamp = platform.request("rgb_led", number, dir="-")
            for colour in "rgb":
                m.submodules[f"led_{number}{colour}"] = led = io.Buffer("o", getattr(lamp, colour))
                m.d.comb += led.o.eq(lit.get((number, colour), 0))
        return m


#: 75 MHz is what LiteX runs this board at: the memory's clock is twice that.
BOARD = Board("ecpix5", "ecpix5:ECPIX585Platform", Ecpix5, DDR3, clock_hz=75_000_000, spread=True, seed=2)
