"""The memory of a board, as LiteDRAM's generator is told of it."""

from dataclasses import dataclass
from typing import Any

#: Bits of what the host's link writes and reads.
HOST_WIDTH = 32
#: The clock for what happens before the memory's own clock runs.
_FIRST_HZ = 25e6


@dataclass(frozen=True)
class Dram:
    """A kind of memory on a kind of FPGA.

    Attributes
    ----------
    module : str
        LiteDRAM's name of the chip.
    kind : str
        ``SDR`` or ``DDR3``.
    phy : str
        LiteDRAM's name of what drives its pins.
    device : str
        The FPGA.
    lanes : int
        Bytes that are transferred together.
    unwired : tuple of str
        Pads of the controller that the board has no use for.
    oscillator_hz : int or None
        The clock on the board from which the controller makes its own, which is then the clock of the whole system. None: the
        controller takes the system's clock.
    refresh_ns : float or None
        What a refresh takes. LiteDRAM counts that of a DDR3 in clocks of the chip's fastest grade, and waits for as many of
        slower ones. None: LiteDRAM's own figure.
    core_ports : tuple of str
        The controller's ports for the co-processor: one, or two that take the memory's rows in turn
        (`tailrace.hdl.boards.row_ports.RowPorts`).
    model_rows : int or None
        Rows of LiteDRAM's model, which is filled when a simulation starts. None: as many as the chip has.
    """

    module: str
    kind: str
    phy: str
    device: str
    lanes: int
    unwired: tuple[str, ...] = ()
    oscillator_hz: int | None = None
    refresh_ns: float | None = None
    core_ports: tuple[str, ...] = ("core",)
    model_rows: int | None = None

    @property
    def host_width(self) -> int:
        """Bits of the controller's port for the host: a word, or a burst of eight transfers where no word can be alone."""
        return HOST_WIDTH if self.kind == "SDR" else 64 * self.lanes

    def settings(self, clock_hz: float, data_width: int) -> dict[str, Any]:
        """Settings of the generator.

        Parameters
        ----------
        clock_hz : float
            Of the ports. The memory's own clock is the same, or twice as fast with DDR3.
        data_width : int
            Bits of each of the co-processor's ports.
        """
        return {
            "cpu": "None",
            "uart": "None",
            "device": self.device,
            "memtype": self.kind,
            "sdram_module": self.module,
            "sdram_module_nb": self.lanes,
            "sdram_rank_nb": 1,
            "sdram_phy": self.phy,
            "sys_clk_freq": clock_hz,
            # Two that are not LiteDRAM's.
            "refresh_ns": self.refresh_ns or "None",
            "model_rows": self.model_rows or "None",
            "user_ports": {
                **{port: {"type": "axi", "data_width": data_width, "id_width": 1} for port in self.core_ports},
                "host": {"type": "axi", "data_width": self.host_width, "id_width": 1},
            },
            **({"input_clk_freq": float(self.oscillator_hz), "init_clk_freq": _FIRST_HZ} if self.oscillator_hz else {}),
        }
