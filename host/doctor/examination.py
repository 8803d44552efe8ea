"""What the checks of an examination share, and how one says what is wrong."""

from collections.abc import Callable
from dataclasses import dataclass

from tailrace.spec.transport import Transport

from ..device.driver import Device


class Fault(Exception):
    """A check has found something wrong.

    Parameters
    ----------
    found : str
        What is wrong, with the figures that show it.
    advice : str
        What to do.
    """

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found, self.advice = found, advice


class NothingToDo(Exception):
    """A check does not apply to this device; its text says why."""


@dataclass
class Examination:
    """A device under examination.

    Attributes
    ----------
    name : str
        As the user has given it.
    opener : callable
        Opens the device.
    timeout : float
        Seconds without progress after which a run is given up.
    seed : int
        Of all that is random.
    clock : float or None
        MHz of the core's clock, if it is known.
    progress : callable
        Told what is being done, and how much of it is done, 0 to 1.
    transport : Transport or None
        The device, once it is open.
    device : Device or None
        The driver, once the device is known to be one.
    rate : float
        Bytes per second over the link, as measured so far.
    """

    name: str
    opener: Callable[[], Transport]
    timeout: float
    seed: int
    clock: float | None
    progress: Callable[[str, float], None] = lambda what, done: None
    transport: Transport | None = None
    device: Device | None = None
    rate: float = 0.0

    @property
    def link(self) -> Transport:
        """The device, which must be open."""
        assert self.transport is not None
        return self.transport

    @property
    def driver(self) -> Device:
        """The driver, which must have been made."""
        assert self.device is not None
        return self.device


@dataclass(frozen=True)
class Check:
    """A step of the examination.

    Attributes
    ----------
    name : str
    run : callable
        Looks at the device and returns its figures; raises `Fault`, `NothingToDo`, or what the driver raises.
    needs : tuple of str
        Names of the steps that must be in order first.
    advice : str
        What to do when the driver fails with an error of its own.
    """

    name: str
    run: Callable[[Examination], str]
    needs: tuple[str, ...]
    advice: str
