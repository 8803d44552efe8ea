"""``tailrace serve`` on an emulator that fails, or becomes slow, when it is told to.

SIGUSR1: the next wait for the device ends with an error, while the device goes on. SIGUSR2: from now on each wait takes a
moment more. SIGRTMIN: no longer.
"""

import signal
import time
from typing import Any

from tailrace.__main__ import main
from tailrace.sim.emulator.device import EmulatedDevice
from tailrace.spec.errors import DeviceTimeout

#: What the error says.
PLANTED = "the device does not answer: a planted error"
#: Seconds of a slow step.
SLOW = 0.2


class _Plan:
    fails = slow = False


def _wait(device: EmulatedDevice, timeout: float) -> None:
    if _Plan.fails:
        _Plan.fails = False
        raise DeviceTimeout(PLANTED)
    if _Plan.slow:
        time.sleep(SLOW)
    _plain_wait(device, timeout)


def _fail(*_: Any) -> None:
    _Plan.fails = True


def _slow(number: int, *_: Any) -> None:
    _Plan.slow = number == signal.SIGUSR2


_plain_wait = EmulatedDevice.wait

if __name__ == "__main__":
    EmulatedDevice.wait = _wait  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, _fail)
    signal.signal(signal.SIGUSR2, _slow)
    signal.signal(signal.SIGRTMIN, _slow)
    main()
