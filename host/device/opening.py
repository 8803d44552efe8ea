"""Opens a device by its name: hardware, or one without hardware that is built for a model."""

from tailrace.sim.devices import KINDS, open_device
from tailrace.spec.errors import ConfigError

from ..gguf.describe import DescribedModel
from ..image.builds import AUTO, choose
from ..image.image import ImageRequest
from ..transports.open import is_hardware, open_transport
from ..transports.sizes import parse_size
from .driver import Device

#: Tokens that there is room for if nothing is said, and the model was trained for more.
DEFAULT_CONTEXT = 4096


def check_device(device: str | Device, config: str, memory: str, **numbers: int | None) -> None:
    """Check that a device is one, that only such are described that are built here, and what is to be a number of things.

    Parameters
    ----------
    device : str or Device
    config, memory : str
    **numbers : int or None
        By the names of the caller's parameters; None where it was left out.

    Raises
    ------
    ConfigError
        If it is not.
    """
    for name, value in (("config", config), ("memory", memory)):
        if not isinstance(value, str):
            raise ConfigError(f"{name} must be a text, as in {AUTO!r}, not {value!r}")
    for name, number in numbers.items():
        # Numpy's integers are fixed in size, and would overflow on the way.
        if number is not None and (type(number) is not int or number < 1):
            raise ConfigError(f"{name} must be a whole number (int) of 1 or more, not {number!r}")
    simulated = isinstance(device, str) and device in KINDS
    if not isinstance(device, Device) and not simulated and not (isinstance(device, str) and is_hardware(device)):
        raise ConfigError(
            f"unknown device {device!r}: choose one of {', '.join(KINDS)}, or hardware such as serial:/dev/ttyUSB0"
        )
    for name, value in (("config", config), ("memory", memory)):
        if value != AUTO and not simulated:
            raise ConfigError(f"{name} is for devices without hardware that are opened here: leave it out")


def open_for(device: str, config: str, memory: str, imported: DescribedModel, request: ImageRequest) -> Device:
    """Open a device for a model.

    Parameters
    ----------
    device : str
        What `check_device` has accepted.
    config, memory : str
        Of a device without hardware. ``auto``: a build that fits, and as much as is needed.
    imported : DescribedModel
    request : ImageRequest

    Raises
    ------
    LimitError
        If the model does not fit the build.
    ConfigError
        If configuration or memory are not such.
    ToolError, LinkError
        If the device can't be opened.
    """
    if is_hardware(device):
        return Device(open_transport(device))
    chosen = choose(
        imported,
        request,
        config,
        None if memory == AUTO else parse_size(memory),
        simulated=device == "verilator",
        native=device == "emulator",
    )
    return Device(open_device(device, chosen.config, chosen.memory))
