"""Timing of the memory behind a simulated core.

A DRAM channel is as wide as the core's bus needs for both to have the same peak: one access (burst) of the channel is one beat
of the bus, and takes one cycle of the core's clock. A 512-bit bus at 300 MHz meets a DDR4-2400 channel of 64 data pins
(19.2 GB/s), a 128-bit bus one of 16 pins. So "beats over cycles" is the part of the DRAM's peak that is used.
"""

from dataclasses import astuple, dataclass

from tailrace.spec.errors import ConfigError


@dataclass(frozen=True)
class Dram:
    """A DRAM channel; times in clocks of its command clock (tCK), named as in JESD79-4.

    Attributes
    ----------
    name : str
    clock : float
        MHz.
    access_clocks : int
        Clocks that the data of one access takes; a cycle of the core.
    bank_groups, banks_per_group : int
    row_accesses : int
        Accesses in a row of a bank.
    controller : int
        Clocks that the controller and the pins add to a read, and after which a write is acknowledged.
    cl, cwl, rcd, rp, ras, ccd_s, ccd_l, rrd_s, rrd_l, faw, wr, wtr_s, wtr_l, rtp, refi, rfc : int
    write_batch, write_age : int
        Writes that the controller gathers before it turns the bus around, and clocks after which it does so anyway.
    """

    name: str
    clock: float
    access_clocks: int
    bank_groups: int
    banks_per_group: int
    row_accesses: int
    controller: int
    cl: int
    cwl: int
    rcd: int
    rp: int
    ras: int
    ccd_s: int
    ccd_l: int
    rrd_s: int
    rrd_l: int
    faw: int
    wr: int
    wtr_s: int
    wtr_l: int
    rtp: int
    refi: int
    rfc: int
    write_batch: int = 16
    write_age: int = 4096

    @property
    def ceiling(self) -> float:
        """Part of the peak that a sequential read can reach: what refresh leaves.

        A refresh keeps the channel from the end of the last access to the first access of a row that is opened afterwards: all
        banks are precharged (after tRTP), refreshed, and opened again.
        """
        return 1 - (self.rtp + self.rp + self.rfc + self.rcd) / self.refi

    def parameters(self) -> tuple[int, ...]:
        """The numbers in the order of ``DramParameters`` in ``cpp/dram.h``."""
        _, _, access_clocks, *rest = astuple(self)
        return (1, access_clocks, access_clocks, *rest)


#: DDR4-2400 (speed bin 17-17-17), 8 Gb chips of 8 data pins: JESD79-4B, tables 100 to 107; tRFC1 350 ns, tREFI 7.8 us.
DDR4_2400 = Dram(
    "ddr4",
    clock=1200.0,
    access_clocks=4,
    bank_groups=4,
    banks_per_group=4,
    row_accesses=128,
    controller=60,
    cl=17,
    cwl=12,
    rcd=17,
    rp=17,
    ras=39,
    ccd_s=4,
    ccd_l=6,
    rrd_s=4,
    rrd_l=6,
    faw=26,
    wr=18,
    wtr_s=3,
    wtr_l=9,
    rtp=9,
    refi=9360,
    rfc=420,
)

#: A pseudo-channel of HBM2 at 2 Gb/s and pin (JESD235B): 64 data pins, bursts of 4, 8 Gb a channel; tRFC 260 ns, tREFI 3.9 us.
HBM2 = Dram(
    "hbm2",
    clock=1000.0,
    access_clocks=2,
    bank_groups=4,
    banks_per_group=4,
    row_accesses=32,
    controller=60,
    cl=14,
    cwl=4,
    rcd=14,
    rp=14,
    ras=33,
    ccd_s=2,
    ccd_l=4,
    rrd_s=4,
    rrd_l=6,
    faw=16,
    wr=16,
    wtr_s=3,
    wtr_l=8,
    rtp=5,
    refi=3900,
    rfc=260,
)

#: DDR3-1066 (speed bin 7-7-7), 4 Gb chips of 8 data pins: JESD79-3F; tRFC 260 ns, tREFI 7.8 us. DDR3 has no groups of banks.
DDR3_1066 = Dram(
    "ddr3",
    clock=533.0,
    access_clocks=4,
    bank_groups=1,
    banks_per_group=8,
    row_accesses=128,
    controller=27,
    cl=7,
    cwl=6,
    rcd=7,
    rp=7,
    ras=20,
    ccd_s=4,
    ccd_l=4,
    rrd_s=4,
    rrd_l=4,
    faw=20,
    wr=8,
    wtr_s=4,
    wtr_l=4,
    rtp=4,
    refi=4160,
    rfc=139,
)

DRAMS: dict[str, Dram] = {d.name: d for d in (DDR4_2400, HBM2, DDR3_1066)}
#: What ``memory`` can be: a fixed latency, or a DRAM channel.
MEMORIES = ("ideal", *DRAMS)


def dram_of(memory: str) -> Dram | None:
    """The DRAM called `memory`; None for ``ideal``.

    Raises
    ------
    ConfigError
        If there is no such memory.
    """
    if memory not in MEMORIES:
        raise ConfigError(f"unknown memory {memory!r}: choose one of {', '.join(MEMORIES)}")
    return DRAMS.get(memory)
