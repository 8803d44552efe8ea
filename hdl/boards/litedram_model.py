"""LiteDRAM's model of a DDR3, as the ECP5's PHY would have it in front of the controller.

LiteDRAM's generator simulates every DDR3 behind the PHY of another family, at four memory clocks in a cycle of the controller,
and with reads that need no levelling. Here the model is used with the settings of LiteDRAM's ECP5 PHY, two memory clocks in a
cycle, and behind that PHY's registers: reads are wrong until they are aligned.
"""

from importlib import import_module
from typing import Any

#: For each byte lane, where its reads are right: the slip, and the first and last delay. One read of `FLAKY` is wrong at the
#: settings next to them. The settings that LiteDRAM starts with are wrong for each lane.
WINDOWS = ((1, 2, 5), (2, 3, 6))
FLAKY = 64
#: Names of LiteDRAM's registers, in LiteDRAM's order.
_ACTIONS = ("_rdly_dq_rst", "_rdly_dq_inc", "_rdly_dq_bitslip_rst", "_rdly_dq_bitslip")


def use_ddr3_model(generator: Any, core_config: dict[str, Any]) -> None:
    """Let the generator build this model.

    Parameters
    ----------
    generator : module
        ``litedram.gen``.
    core_config : dict
        Its settings, and ``model_rows``, the rows that the memory has here, or None for as many as it has.
    """
    simulator: Any = import_module("litex.tools.litex_sim")
    settings = _phy_settings(core_config)
    chip = core_config["sdram_module"]

    rows = core_config["model_rows"] or chip.nrows

    def module(clock_hz: float, rate: str) -> Any:
        made = type(chip.__name__, (chip,), {"nrows": rows})
        return made(clock_hz, f"1:{settings.nphases}")

    module.nrows, module.nbanks = rows, chip.nbanks  # type: ignore[attr-defined]
    core_config["sdram_module"] = module
    simulator.get_sdram_phy_settings = lambda **_: settings
    # A burst is a word of the model, however many clocks it takes.
    bank = simulator.BankModel
    simulator.BankModel = lambda **options: bank(**options | {"burst_length": 8 // settings.nphases})
    generator.SDRAMPHYModel = _levelled(simulator.SDRAMPHYModel)


def _phy_settings(core_config: dict[str, Any]) -> Any:
    """The settings of the PHY that the board has, by making one that is not used."""
    migen: Any = import_module("migen")
    lanes = core_config["sdram_module_nb"]
    widths = {"a": 15, "ba": 3, "dm": lanes, "dq": 8 * lanes, "dqs_p": lanes}
    names = ("a", "ba", "ras_n", "cas_n", "we_n", "cke", "odt", "clk_p", "dm", "dq", "dqs_p")
    pads = migen.Record([(name, widths.get(name, 1)) for name in names])
    return core_config["sdram_phy"](pads, sys_clk_freq=core_config["sys_clk_freq"]).settings


def _levelled(memory: Any) -> Any:
    """The class of a PHY with a `memory` behind, which gives wrong data where it isn't aligned."""
    migen: Any = import_module("migen")
    csr: Any = import_module("litex.soc.interconnect.csr")
    dfi: Any = import_module("litedram.phy.dfi")

    class Levelled(migen.Module, csr.AutoCSR):  # type: ignore[misc]
        def __init__(self, module: Any, settings: Any, clk_freq: float) -> None:
            self.settings = settings
            self.submodules.memory = inner = memory(module=module, settings=settings, clk_freq=clk_freq)
            lanes = settings.databits // 8
            self._dly_sel = csr.CSRStorage(lanes, name="dly_sel")
            for name in _ACTIONS:
                setattr(self, name, csr.CSR(name=name.removeprefix("_")))
            geometry = module.geom_settings
            self.dfi = dfi.Interface(
                geometry.addressbits, geometry.bankbits, settings.nranks, settings.dfi_databits, settings.nphases
            )
            reads = migen.Signal(max=FLAKY)
            for outer, own in zip(self.dfi.phases, inner.dfi.phases, strict=True):
                for field, _, direction in outer.layout:
                    if direction == migen.DIR_M_TO_S:
                        self.comb += getattr(own, field).eq(getattr(outer, field))
                self.comb += outer.rddata_valid.eq(own.rddata_valid)
            self.sync += migen.If(inner.dfi.phases[0].rddata_valid, reads.eq(reads + 1))
            for lane in range(lanes):
                right = self._alignment(lane, settings, reads)
                transfers = [
                    (phase, place)
                    for phase in range(settings.nphases)
                    for place in range(8 * lane, settings.dfi_databits, settings.databits)
                ]
                # What comes too early or too late is another transfer's.
                for (phase, place), (late, behind) in zip(transfers, transfers[1:] + transfers[:1], strict=True):
                    self.comb += (
                        self.dfi.phases[phase]
                        .rddata[place : place + 8]
                        .eq(
                            migen.Mux(
                                right,
                                inner.dfi.phases[phase].rddata[place : place + 8],
                                inner.dfi.phases[late].rddata[behind : behind + 8],
                            )
                        )
                    )

        def _alignment(self, lane: int, settings: Any, reads: Any) -> Any:
            """Registers of a lane; whether they are right for this read."""
            delay, slip = migen.Signal(max=settings.delays), migen.Signal(max=settings.bitslips)
            reset_delay, next_delay, reset_slip, next_slip = (
                self._dly_sel.storage[lane] & getattr(self, name).re for name in _ACTIONS
            )
            self.sync += [
                migen.If(next_delay, delay.eq(delay + 1)),
                migen.If(reset_delay, delay.eq(0)),
                migen.If(next_slip, slip.eq(slip + 1)),
                migen.If(reset_slip, slip.eq(0)),
            ]
            right_slip, first, last = WINDOWS[lane]
            sure = (delay >= first) & (delay <= last)
            near = (delay >= first - 1) & (delay <= last + 1) & (reads != 0)
            return (slip == right_slip) & (sure | near)

    return Levelled
