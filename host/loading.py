"""From the name of a model and that of a device to a language model."""

import os
from collections.abc import Callable
from dataclasses import replace

from tailrace.sim.devices import KINDS, open_device
from tailrace.spec.config import CONFIGS, RIGHT_HAND_SIDES, Config, parse_config
from tailrace.spec.errors import ConfigError
from tailrace.spec.transport import Transport

from .device.decoder import Decoder
from .device.driver import Device
from .device.geometry import Geometry
from .engine import Engine
from .gguf.describe import ImportedModel, import_model
from .gguf.file import open_model
from .image.image import ImageRequest
from .image.plan import plan_image
from .image.programs import build_programs
from .language_model import LanguageModel
from .models.fetch import resolve_model
from .text.tokenizer import Tokenizer
from .transports.open import is_hardware, open_transport
from .transports.sizes import parse_size

#: Tokens that there is room for if nothing is said, and the model was trained for more.
DEFAULT_CONTEXT = 4096
_AUTO = "auto"


def load(
    model: str | os.PathLike[str],
    device: str | Device = "golden",
    *,
    config: str = _AUTO,
    memory: str = _AUTO,
    context: int | None = None,
    batch: int = 1,
    tokens_per_doorbell: int = 1,
    quantise: str | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> LanguageModel:
    """Load a language model into a device.

    Parameters
    ----------
    model : str or path
        A GGUF file; or ``smollm2``, which is fetched once, or ``shakespeare``, which comes with Tailrace.
    device : str or Device
        ``golden``: the numpy model; ``verilator``: the gateware, simulated; hardware, such as ``serial:/dev/ttyUSB0``; or a
        device that is open, and stays so when the language model is closed.
    config : str
        Build of a device without hardware: a name and changes, as in ``base,bus_width=256``. ``auto``: one that fits.
    memory : str
        Memory of a device without hardware, as in ``2GiB``. ``auto``: as much as is needed.
    context : int or None
        Tokens that prompt and answer have room for together. None: 4096, or as many as the model was trained for if that is
        less.
    batch : int
        Prompts that share the device's steps: each takes a KV cache, and a right-hand side of the build.
    tokens_per_doorbell : int
        Tokens that the device chooses on its own before the host looks, where the best token is taken.
    quantise : str or None
        Format that matrices of plain numbers become, such as ``Q8_0``; None: they are refused.
    progress : callable or None
        Told what is being done, and how much of it is (0 to 1).

    Raises
    ------
    ModelError
        If the file is not a model that runs.
    LimitError
        If model and context do not fit the device.
    ConfigError
        If device, configuration or memory are not such.
    ToolError
        If something that is needed is not installed.
    """
    if not isinstance(device, Device) and not is_hardware(device) and device not in KINDS:
        raise ConfigError(
            f"unknown device {device!r}: choose one of {', '.join(KINDS)}, or hardware such as serial:/dev/ttyUSB0"
        )
    path = resolve_model(os.fspath(model), progress)
    file = open_model(path)
    imported = import_model(file, min(file.context_length, DEFAULT_CONTEXT) if context is None else context)
    tokenizer = Tokenizer(file)
    if isinstance(device, Device):
        opened = device
    else:
        request = ImageRequest(batch, tokens_per_doorbell > 1, quantise)
        opened = Device(_open(device, config, memory, imported, request))
    try:
        if device is opened or is_hardware(str(device)):
            for name, value in (("config", config), ("memory", memory)):
                if value != _AUTO:
                    raise ConfigError(f"{name} is for devices without hardware that are opened here: leave it out")
        decoder = Decoder(
            opened,
            imported,
            batch=batch,
            tokens_per_doorbell=tokens_per_doorbell,
            quantise=quantise,
            on_progress=progress,
        )
    except BaseException:
        if device is not opened:
            opened.close()
        raise
    return LanguageModel(Engine(decoder, tokenizer, None if device is opened else opened.close))


def _open(kind: str, config: str, memory: str, imported: ImportedModel, request: ImageRequest) -> Transport:
    if is_hardware(kind):
        return open_transport(kind)
    build = _default_config(kind, request.batch) if config == _AUTO else parse_config(config)
    if memory == _AUTO:
        image = plan_image(imported, Geometry.of_config(build), request)
        size = 1 << (build_programs(image).end - 1).bit_length()
    else:
        size = parse_size(memory)
    return open_device(kind, build, size)


def _default_config(kind: str, batch: int) -> Config:
    if kind == "golden":
        return CONFIGS["wide"]
    sides = next((n for n in RIGHT_HAND_SIDES if n >= batch), RIGHT_HAND_SIDES[-1])
    return replace(CONFIGS["base"], name=f"base,right_hand_sides={sides}", right_hand_sides=sides)
