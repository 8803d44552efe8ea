"""Opens a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..architectures import ARCHITECTURES, Architecture
from ..stamp import Stamp
from ..writer import NewTensor
from .configuration import CONFIG, read_configuration
from .json_file import read_json
from .shards import open_shards
from .tensors import tensors_of
from .tokenizer import GENERATION, SETTINGS, TEMPLATE, TOKENIZER, tokenizer_values


@dataclass(frozen=True)
class Checkpoint:
    """A folder, in GGUF's terms.

    Attributes
    ----------
    architecture : Architecture
        With rows of q and k in the folder's order.
    values : mapping of str to object
        Of the header, as `tailrace.gguf.writer.write_gguf` takes them.
    tensors : list of NewTensor
    stamps : tuple of Stamp
        Of all files that were read.
    """

    architecture: Architecture
    values: Mapping[str, Any]
    tensors: list[NewTensor]
    stamps: tuple[Stamp, ...]


def is_checkpoint(path: Path) -> bool:
    """Whether a path is that of a folder with a model of Hugging Face."""
    return path.is_dir() and (path / CONFIG).is_file()


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or the model is none that is known here.
    """
    texts = [folder / name for name in (CONFIG, TOKENIZER, SETTINGS, GENERATION, TEMPLATE)]
    stamps = tuple(Stamp.of(path, path.stat()) for path in texts if path.exists())
    config = read_configuration(folder)
    entries, shards = open_shards(folder)
    tensors = tensors_of(folder, config, entries)
    values = {"general.name": folder.absolute().name, **config.values, **tokenizer_values(folder, read_json(folder / CONFIG))}
    known = ARCHITECTURES[config.family.architecture]
    architecture = replace(
        known,
        paired_rope=config.family.neighbours,
        windowed=known.windowed or config.windowed,
        exact_yarn=known.exact_yarn or config.exact_yarn,
    )
    return Checkpoint(architecture, values, tensors, stamps + shards)
