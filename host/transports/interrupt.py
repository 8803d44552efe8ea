"""Waiting for a device whose registers can be read at any time."""

import time
from collections.abc import Callable

from tailrace.spec.errors import DeviceTimeout, LinkError
from tailrace.spec.registers import offset

#: Seconds between two looks at the device when no event comes, and when there are no events.
_LOOK, _POLL = 0.1, 0.001
#: Seconds that the event of a run may come after its end was seen.
_LATE = 0.02
#: Bits that ``ISR`` can have.
_PENDING = 3
#: Counters that change while a run gets on.
_PROGRESS = tuple(offset(f"{name}_LO") for name in ("COMMANDS", "COMMAND_BEATS", "VECTOR_BEATS", "WEIGHT_BEATS", "WRITE_BEATS"))


class InterruptWait:
    """Waits until the interrupt is pending.

    An event is only a reason to look: whether the interrupt is pending, ``ISR`` says, which nothing happens to when it is read.
    So neither an event that is left over from an earlier run nor one that is lost does harm.

    Parameters
    ----------
    read_register : callable
    next_event : callable or None
        Waits for an event for so many seconds; returns whether there was one. None: there are no events, so ``ISR`` is read
        again and again.

    Attributes
    ----------
    interrupts : int
        Runs whose end an event told.
    missed : int
        Runs whose end was only found by looking, although there should have been an event by then, or 20 ms later.
    """

    def __init__(self, read_register: Callable[[int], int], next_event: Callable[[float], bool] | None) -> None:
        self._read, self._next_event = read_register, next_event
        self.interrupts = self.missed = 0

    @property
    def statistics(self) -> dict[str, int]:
        """What was counted, for reports; empty without events."""
        return {} if self._next_event is None else {"interrupts": self.interrupts, "missed interrupts": self.missed}

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is pending.

        Raises
        ------
        DeviceTimeout
            If neither that nor any progress of the device was seen for `timeout` seconds.
        LinkError
            If the device no longer answers.
        """
        seen, since = self._progress(), time.monotonic()
        while True:
            arrived = self._event(min(_LOOK, timeout))
            pending = self._read(offset("ISR"))
            if pending & ~_PENDING:
                raise LinkError(
                    f"the device no longer answers: its register ISR reads {pending:#010x}. Check its power, its clock and"
                    " whether it was loaded anew, then open it again"
                )
            if pending:
                arrived = arrived or self._next_event is not None and self._event(_LATE)
                self.interrupts, self.missed = self.interrupts + arrived, self.missed + (not arrived)
                return
            progress, now = self._progress(), time.monotonic()
            if progress != seen:
                seen, since = progress, now
            elif now - since >= timeout:
                raise DeviceTimeout(
                    f"no interrupt and no progress for {timeout:g} s: the device hangs, or was not started. tailrace doctor"
                    " tells which part of it is to blame"
                )

    def _progress(self) -> tuple[int, ...]:
        return tuple(self._read(place) for place in _PROGRESS)

    def _event(self, seconds: float) -> bool:
        if self._next_event is not None:
            return self._next_event(seconds)
        time.sleep(min(seconds, _POLL))
        return False
