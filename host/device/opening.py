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


def check_device(device: str | Device, config: str, memory: str) -> None:
    """Check that a device is one, and that only such are described that are built here.

    Raises
    ------
    ConfigError
        If it is not.
    """
    simulated = not isinstance(device, Device) and device in KINDS
    if not isinstance(device, Device) and not is_hardware(device) and not simulated:
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
    chosen = choose(imported, request, config, None if memory == AUTO else parse_size(memory), simulated=device == "verilator")
    return Device(open_device(device, chosen.config, chosen.memory))
