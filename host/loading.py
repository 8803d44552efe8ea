"""From the name of a model and that of a device to a language model."""

import os
import warnings
from collections.abc import Callable

from .device.decoder import Decoder
from .device.driver import Device
from .device.opening import DEFAULT_CONTEXT, check_device, open_for
from .generation.engine import Engine
from .gguf.describe import DescribedModel, import_model
from .gguf.file import open_model
from .image.builds import AUTO
from .image.image import ImageRequest
from .language_model import LanguageModel
from .models.fetch import resolve_model
from .text.tokenizer import Tokenizer


def load(
    model: str | os.PathLike[str],
    device: str | Device = "emulator",
    *,
    config: str = AUTO,
    memory: str = AUTO,
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
        A GGUF file, or a folder of Hugging Face; or ``smollm2``, which is fetched once, or ``shakespeare``, which comes with
        Tailrace.
    device : str or Device
        ``emulator``: the device's instructions in native code; ``golden``: the same in numpy; ``verilator``: the gateware,
        simulated; hardware, such as ``serial:/dev/ttyUSB0``; or a device that is open, and stays so when the language model is
        closed.
    config : str
        Build of a device without hardware: a name and changes, as in ``base,bus_width=256``. ``auto``: the smallest of `base`,
        `large` and `wide` that takes the model with its context; simulated, with a bus of 512 bits. ``auto,bus_width=256``:
        the smallest of them with these changes.
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

    Warns
    -----
    UserWarning
        Of what the file's tokenizer lacks or gets wrong, and what is done about it.

    Raises
    ------
    ModelError
        If the file is not a model that runs.
    LimitError
        If model and context do not fit the device.
    ConfigError
        If device, configuration, memory or a number are not such.
    ToolError
        If something that is needed is not installed.
    """
    check_device(device, config, memory, context=context, batch=batch, tokens_per_doorbell=tokens_per_doorbell)

    def opened(imported: DescribedModel, request: ImageRequest) -> Device:
        return device if isinstance(device, Device) else open_for(device, config, memory, imported, request)

    return load_into(
        opened,
        model,
        context=context,
        batch=batch,
        tokens_per_doorbell=tokens_per_doorbell,
        quantise=quantise,
        progress=progress,
        keep=isinstance(device, Device),
        stacklevel=3,
    )


def load_into(
    opened: Callable[[DescribedModel, ImageRequest], Device],
    model: str | os.PathLike[str],
    *,
    context: int | None,
    batch: int,
    tokens_per_doorbell: int,
    quantise: str | None,
    progress: Callable[[str, float], None] | None,
    keep: bool = False,
    stacklevel: int = 3,
) -> LanguageModel:
    """Load a language model into a device that is opened when it is known what the model needs.

    Parameters
    ----------
    opened : callable
        Takes the model and what is asked of its image; returns the device.
    model, context, batch, tokens_per_doorbell, quantise, progress
        As for `load`.
    keep : bool
        Whether the device stays open when the language model is closed.
    stacklevel : int
        Whose line warnings are for: that of the caller of so many functions.

    Raises
    ------
    TailraceError
        As `load`.
    """
    path = resolve_model(os.fspath(model), progress)
    file = open_model(path)
    imported = import_model(file, min(file.context_length, DEFAULT_CONTEXT) if context is None else context)
    tokenizer = Tokenizer(file)
    for note in tokenizer.notes:
        warnings.warn(f"{path}: {note}", stacklevel=stacklevel)
    device = opened(imported, ImageRequest(batch, tokens_per_doorbell > 1, quantise))
    try:
        decoder = Decoder(
            device,
            imported,
            batch=batch,
            tokens_per_doorbell=tokens_per_doorbell,
            quantise=quantise,
            on_progress=progress,
        )
    except BaseException:
        if not keep:
            device.close()
        raise
    return LanguageModel(Engine(decoder, tokenizer, None if keep else device.close))
