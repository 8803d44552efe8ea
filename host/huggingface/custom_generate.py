"""What `custom_generate/generate.py` in a model's folder calls: `generate`, with the new tokens computed by a device."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from tailrace.spec.errors import ModelError

from .generate import Offload, offload


@dataclass(frozen=True)
class _Choice:
    """What a device is loaded with."""

    device: str
    gguf: Path | None
    quantise: str | None
    context: int | None
    batch: int


_OFFLOADS: "WeakKeyDictionary[Any, tuple[_Choice, Offload]]" = WeakKeyDictionary()


def generate_on_device(
    model: Any,
    *,
    gguf: Path | str | None = None,
    quantise: str | None = None,
    device: str = "emulator",
    context: int | None = None,
    **arguments: Any,
) -> Any:
    """`generate` of a model, decoded on a device, which is loaded at the first call and kept as long as the model.

    Parameters
    ----------
    model : PreTrainedModel
    gguf, quantise, device, context
        As for `tailrace.huggingface.offload`. The device is loaded anew when one of them changes, or when more sequences are
        to be generated at a time than it was loaded for.
    **arguments
        Those of Hugging Face's `generate`.

    Raises
    ------
    ModelError, LimitError
        As `offload` and `Offload.generate`.
    """
    rows = _rows(arguments)
    known = _OFFLOADS.get(model)
    batch = rows if known is None else max(rows, known[0].batch)
    choice = _Choice(device, None if gguf is None else Path(gguf), quantise, context, batch)
    if known is not None and known[0] != choice:
        known[1].close()
        del _OFFLOADS[model]
        known = None
    if known is None:
        loaded = offload(model, device, gguf=choice.gguf, quantise=quantise, context=context, batch=batch)
        known = _OFFLOADS[model] = (choice, loaded)
    return known[1].generate(**arguments)


def file_beside(model: Any, name: str, exported: str) -> Path:
    """The GGUF file of a folder that `tailrace export-hf` has written.

    Parameters
    ----------
    model : PreTrainedModel
    name : str
        Of the file.
    exported : str
        The folder, where it was written; the model may have been loaded from where it is now.

    Raises
    ------
    ModelError
        If it is in neither.
    """
    places = [Path(str(model.config.name_or_path or exported)), Path(exported)]
    found = next((place / name for place in places if (place / name).is_file()), None)
    if found is None:
        raise ModelError(
            f"{name} is neither in {places[0]} nor in {places[1]}: call generate with gguf=, the path of that file, or with"
            " quantise='Q8_0'"
        )
    return found


def _rows(arguments: dict[str, Any]) -> int:
    """Sequences that are to be generated."""
    given = next((arguments[name] for name in ("input_ids", "inputs") if arguments.get(name) is not None), None)
    settings = arguments.get("generation_config")
    each = arguments.get("num_return_sequences") or getattr(settings, "num_return_sequences", None) or 1
    return int(each) * (1 if given is None else len(given))
