"""The banks of a DRAM channel: when an access can take place."""

from collections import deque
from dataclasses import dataclass

from ..memory_models import Dram

_LONG_AGO = -(1 << 40)


@dataclass
class Bank:
    """A bank, and the earliest clocks of its next commands."""

    open: bool = False
    row: int = 0
    activate: int = 0
    column: int = 0
    precharge: int = 0


class Banks:
    """The schedule of ``sim/cpp/dram.h``: each access gets the earliest place after the ones before it.

    Parameters
    ----------
    dram : Dram
    refresh_at : int or None
        Clock of the next refresh; None: one interval from the start.

    Attributes
    ----------
    column : int
        Clock of the last column command.
    refresh_at : int
    """

    def __init__(self, dram: Dram, refresh_at: int | None = None) -> None:
        self._dram = dram
        self._banks = [Bank() for _ in range(dram.bank_groups * dram.banks_per_group)]
        self.refresh_at = dram.refi if refresh_at is None else refresh_at
        self.column, self._group, self._writes = _LONG_AGO, -1, False
        self._activated, self._activated_group = _LONG_AGO, -1
        self._last_four: deque[int] = deque([_LONG_AGO] * 4, maxlen=4)
        # The row that lies open in all groups of banks.
        self._open_row = -1

    def read(self, access: int, count: int, begin: int) -> tuple[int, int]:
        """Read neighbouring accesses that arrive at a clock.

        Returns
        -------
        tuple of int
            How many of them follow each other without a gap, and the clock of the first one's column command.
        """
        column = self._in_open_row(access, begin)
        if column is None:
            column = self.schedule(access, False, begin)
        if self._open_row != self._row(access):
            return 1, column
        # The other groups are open, too: what follows goes on without a gap, up to the next refresh. A burst stays in its row.
        clocks = self._dram.access_clocks
        count = min(count, 1 + max(self.refresh_at - 1 - column, 0) // clocks)
        self.column = column + (count - 1) * clocks
        self._group = (access + count - 1) % self._dram.bank_groups
        return count, column

    def schedule(self, access: int, write: bool, begin: int) -> int:
        """The clock of the column command of an access that arrives at a clock."""
        dram = self._dram
        group, row = access % dram.bank_groups, access // dram.bank_groups // dram.row_accesses // dram.banks_per_group
        bank = self._bank(access)
        while True:
            if not bank.open or bank.row != row:
                activate = max(begin, bank.activate)
                if bank.open:
                    activate = max(activate, max(begin, bank.precharge) + dram.rp)
                apart = dram.rrd_l if group == self._activated_group else dram.rrd_s
                activate = max(activate, self._activated + apart, self._last_four[0] + dram.faw)
                if activate >= self.refresh_at:
                    self._refresh()
                    continue
                bank.open, bank.row = True, row
                bank.column, bank.precharge = activate + dram.rcd, activate + dram.ras
                self._last_four.append(activate)
                self._activated, self._activated_group = activate, group
            column = max(begin, bank.column, self.column + self._apart(write, group))
            if column >= self.refresh_at:
                self._refresh()
                continue
            self.column, self._group, self._writes = column, group, write
            held = column + dram.cwl + dram.access_clocks + dram.wr if write else column + dram.rtp
            bank.precharge = max(bank.precharge, held)
            others = (self._bank(access - group + n) for n in range(dram.bank_groups))
            together = not write and all(other.open and other.row == row and other.column <= column for other in others)
            self._open_row = self._row(access) if together else -1
            return column

    def shift(self, clocks: int) -> None:
        """Everything happens so much later."""
        for bank in self._banks:
            bank.activate += clocks
            bank.column += clocks
            bank.precharge += clocks
        self.refresh_at += clocks
        self.column += clocks
        self._activated += clocks
        self._last_four = deque((time + clocks for time in self._last_four), maxlen=4)

    def _row(self, access: int) -> int:
        return access // (self._dram.bank_groups * self._dram.row_accesses)

    def _bank(self, access: int) -> Bank:
        dram = self._dram
        bank = access // dram.bank_groups // dram.row_accesses % dram.banks_per_group
        return self._banks[access % dram.bank_groups * dram.banks_per_group + bank]

    def _in_open_row(self, access: int, begin: int) -> int | None:
        """The column command of an access in the row that was read last; None: it lies elsewhere, or a refresh comes first."""
        if self._open_row != self._row(access) or self._writes:
            return None
        dram = self._dram
        column = max(begin, self.column + (dram.ccd_l if access % dram.bank_groups == self._group else dram.ccd_s))
        if column >= self.refresh_at:
            return None
        bank = self._bank(access)
        bank.precharge = max(bank.precharge, column + dram.rtp)
        return column

    def _apart(self, write: bool, group: int) -> int:
        """Clocks from the last column command to one in the same or another direction."""
        dram = self._dram
        same = group == self._group
        apart = dram.ccd_l if same else dram.ccd_s
        if write == self._writes:
            return apart
        if write:
            return max(apart, dram.cl + dram.access_clocks + 2 - dram.cwl)
        return dram.cwl + dram.access_clocks + (dram.wtr_l if same else dram.wtr_s)

    def _refresh(self) -> None:
        dram = self._dram
        start = max([self.refresh_at, *(bank.precharge for bank in self._banks if bank.open)])
        for bank in self._banks:
            bank.activate = max(bank.activate, start + dram.rp + dram.rfc)
            bank.open = False
        self._open_row = -1
        self.refresh_at += dram.refi
