"""The model of a DRAM channel, burst by burst: what its parameters say."""

import pytest

from tailrace.sim.memory_models import DDR4_2400, DRAMS, Dram
from tailrace.sim.timing.dram import DramMemory

BEAT = 64
#: Cycles of a row in all groups of banks, and of all banks.
ROW = DDR4_2400.bank_groups * DDR4_2400.row_accesses


def closed_row(dram: Dram, before: int | None = None) -> int:
    """Cycles of a read that has to open its row, or of one with other clocks before its column command."""
    before = dram.rcd if before is None else before
    return -(-(dram.controller + before + dram.cl + dram.access_clocks) // dram.access_clocks)


@pytest.mark.parametrize("dram", DRAMS.values(), ids=list(DRAMS))
def test_first_read(dram: Dram) -> None:
    assert DramMemory(dram, BEAT).read(10, 0, 1, -1) == [(1, 10 + closed_row(dram))]


def test_an_open_row_and_another_one() -> None:
    memory = DramMemory(DDR4_2400, BEAT)
    memory.read(0, 0, 1, -1)
    opened = memory.read(100, 0, 1, 50)[0][1] - 100
    assert opened == closed_row(DDR4_2400, 0)
    # The next row of the same bank: it is closed first.
    other = memory.read(200, ROW * DDR4_2400.banks_per_group * BEAT, 1, 150)[0][1] - 200
    assert other == closed_row(DDR4_2400, DDR4_2400.rp + DDR4_2400.rcd)


@pytest.mark.parametrize("dram", DRAMS.values(), ids=list(DRAMS))
def test_a_sequential_read_reaches_the_ceiling(dram: Dram) -> None:
    """Burst by burst, and as one long read: what refresh leaves."""
    memory, beats, arrived = DramMemory(dram, BEAT), 64, -1.0
    cycles = 200_000
    count = 0
    while arrived < cycles:
        # As far ahead as a FIFO of 512 beats lets a core ask.
        for number, first in memory.read(max(arrived - 448, 0), count * BEAT, beats, arrived):
            count, arrived = count + number, first + number - 1
    assert count / arrived == pytest.approx(dram.ceiling, rel=3e-3)
    late, lost = memory.stream(100_000, arrived, 0)
    assert late == lost
    assert 100_000 / (100_000 + lost) == pytest.approx(dram.ceiling, rel=3e-3)


def test_what_lies_in_the_fifo_is_used_up_first() -> None:
    memory = DramMemory(DDR4_2400, BEAT)
    late, lost = memory.stream(10_000, 0, 1e6)
    assert (late, lost > 0) == (0, True)


def test_writes_wait_for_the_batch_before() -> None:
    memory = DramMemory(DDR4_2400, BEAT)
    taken = [memory.write(n, n * ROW * BEAT)[0] for n in range(DDR4_2400.write_batch + 1)]
    assert taken[:-1] == list(range(DDR4_2400.write_batch))
    assert taken[-1] > DDR4_2400.write_batch
    # A read that comes later waits for them, too.
    assert memory.read(20, 0, 1, -1)[0][1] - 20 > closed_row(DDR4_2400)
