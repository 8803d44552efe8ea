"""Opens a device by its name: hardware, or one without hardware that is built for a model."""

from dataclasses import replace

from tailrace.sim.devices import KINDS, open_device
from tailrace.spec.config import CONFIGS, RIGHT_HAND_SIDES, Config, parse_config
from tailrace.spec.errors import ConfigError

from ..gguf.describe import DescribedModel
from ..image.image import ImageRequest
from ..image.plan import plan_image
from ..image.programs import build_programs
from ..transports.open import is_hardware, open_transport
from ..transports.sizes import parse_size
from .driver import Device
from .geometry import Geometry

#: What stands for a build that fits, and for as much memory as is needed.
AUTO = "auto"
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
    build = _default_config(device, request.batch) if config == AUTO else parse_config(config)
    if memory == AUTO:
        image = plan_image(imported, Geometry.of_config(build), request)
        size = 1 << (build_programs(image).end - 1).bit_length()
    else:
        size = parse_size(memory)
    return Device(open_device(device, build, size))


def _default_config(kind: str, batch: int) -> Config:
    if kind == "golden":
        return CONFIGS["wide"]
    sides = next((n for n in RIGHT_HAND_SIDES if n >= batch), RIGHT_HAND_SIDES[-1])
    return replace(CONFIGS["base"], name=f"base,right_hand_sides={sides}", right_hand_sides=sides)
