"""``tailrace serve`` on an emulator that fails, or becomes slow, when it is told to.

``python -m verification.load.failing_serve ORDERS serve ...``: the file ORDERS has two numbers, how many waits for the device
shall have failed, while the device goes on, and how many seconds more each other wait takes. It is looked at in every wait.
"""

import sys
import time
from pathlib import Path

from tailrace.__main__ import main
from tailrace.sim.emulator.device import EmulatedDevice
from tailrace.spec.errors import DeviceTimeout

#: What the error says.
PLANTED = "the device does not answer: a planted error"


class _FailingWait:
    """Takes the place of `EmulatedDevice.wait`."""

    def __init__(self, orders: Path) -> None:
        self._orders, self._failed, self._plain = orders, 0, EmulatedDevice.wait

    def wait(self, device: EmulatedDevice, timeout: float) -> None:
        failures, seconds = self._orders.read_text().split()
        if self._failed < int(failures):
            self._failed += 1
            raise DeviceTimeout(PLANTED)
        time.sleep(float(seconds))
        self._plain(device, timeout)


if __name__ == "__main__":
    failing = _FailingWait(Path(sys.argv.pop(1)))
    EmulatedDevice.wait = lambda device, timeout: failing.wait(device, timeout)  # type: ignore[method-assign]
    main()
