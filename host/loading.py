"""From the name of a model and that of a device to a language model."""

import os
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tailrace.sim.devices import KINDS
from tailrace.spec.errors import ConfigError

from .device.decoder import Decoder
from .device.driver import Device
from .device.opening import DEFAULT_CONTEXT, check_device, open_for
from .generation.draft import DraftModel
from .generation.engine import Engine
from .generation.engine_draft import EngineDraft
from .gguf.describe import DescribedModel, import_model, with_or_without_drafts
from .gguf.file import open_model
from .gguf.printable import shown
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
    draft: object = None,
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
    draft : str, path, LanguageModel, PreTrainedModel, DraftModel, False or None
        None: a layer of the model drafts, if the file has one that is there for this (multi-token prediction). False: none
        does. Else a small model that drafts what may come next, for this one to verify several tokens together: a file, which
        gets a device of its own, of the same kind (beside hardware: the emulator); a language model, whose batch is not
        smaller; a causal model of transformers; or whatever else does what a `DraftModel` does. It stays open, but for a
        file's, when this one is closed. The answers are the same.
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

    drafter = None
    if draft is not None and draft is not False:
        named = device if isinstance(device, str) else ""
        drafter = open_draft(
            draft, named, config=config, memory=memory, context=context, batch=batch, quantise=quantise, progress=progress
        )
    return load_into(
        opened,
        model,
        context=context,
        batch=batch,
        tokens_per_doorbell=tokens_per_doorbell,
        quantise=quantise,
        progress=progress,
        keep=isinstance(device, Device),
        drafter=drafter,
        drafts=draft is None,
        stacklevel=3,
    )


@dataclass(frozen=True)
class Drafter:
    """A draft model that is ready, and how it is released."""

    model: DraftModel
    close: Callable[[], None] = lambda: None


def open_draft(
    draft: object,
    device: str,
    *,
    config: str = AUTO,
    memory: str = AUTO,
    context: int | None = None,
    batch: int = 1,
    quantise: str | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Drafter:
    """Make a draft model ready.

    Parameters
    ----------
    draft : object
        As for `load`.
    device, config, memory, context, batch, quantise, progress
        Of the model that is drafted for, as for `load`; a file is loaded into a device like it.

    Raises
    ------
    ConfigError
        If it can't draft.
    TailraceError
        As `load`.
    """
    if isinstance(draft, LanguageModel):
        return Drafter(EngineDraft(draft.engine))
    if isinstance(draft, str | os.PathLike):
        if device not in KINDS:
            device, config, memory = "emulator", AUTO, AUTO
        trained = open_model(resolve_model(os.fspath(draft), progress)).context_length
        loaded = load_into(
            lambda imported, request: open_for(device, config, memory, imported, request),
            draft,
            context=min(trained, DEFAULT_CONTEXT if context is None else context),
            batch=batch,
            tokens_per_doorbell=1,
            quantise=quantise,
            progress=progress,
            stacklevel=4,
        )
        return Drafter(EngineDraft(loaded.engine), loaded.close)
    if isinstance(draft, DraftModel):
        return Drafter(draft)
    if callable(getattr(draft, "can_generate", None)):
        from .huggingface.draft import TorchDraft

        return Drafter(TorchDraft(draft))
    raise ConfigError(
        "draft must be a model's file, a language model, a causal model of transformers, or do what a tailrace.DraftModel does,"
        f" and not {shown(draft)}"
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
    drafter: Drafter | None = None,
    drafts: bool = False,
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
    drafter : Drafter or None
        Drafts for it, and is released with it.
    drafts : bool
        Whether a layer of its own drafts for it, if it has one.
    stacklevel : int
        Whose line warnings are for: that of the caller of so many functions.

    Raises
    ------
    TailraceError
        As `load`.
    """
    owned = ExitStack()
    try:
        if drafter is not None:
            owned.callback(drafter.close)
        path = resolve_model(os.fspath(model), progress)
        file = open_model(path)
        asked = min(file.context_length, DEFAULT_CONTEXT) if context is None else context
        described: DescribedModel = import_model(file, asked, drafts=drafts and tokens_per_doorbell == 1)
        tokenizer = Tokenizer(file)
        for note in tokenizer.notes:
            warnings.warn(f"{path}: {note}", stacklevel=stacklevel)
        if drafter is not None:
            drafter.model.check(tokenizer, batch)
        request = ImageRequest(batch, tokens_per_doorbell > 1, quantise)
        described, device = with_or_without_drafts(described, lambda one: opened(one, request))
        if not keep:
            owned.callback(device.close)
        decoder = Decoder(
            device,
            described,
            batch=batch,
            tokens_per_doorbell=tokens_per_doorbell,
            quantise=quantise,
            on_progress=progress,
        )
        engine = Engine(decoder, tokenizer, owned.close)
        if drafter is not None:
            engine.draft_with(drafter.model)
    except BaseException:
        owned.close()
        raise
    return LanguageModel(engine)
