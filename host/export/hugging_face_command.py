"""``tailrace export-hf``: a model as a folder for Hugging Face's tools."""

from pathlib import Path

import click

from ..command.cli_options import QUANTISE
from ..command.output_file import OutputFolder
from ..command.run import require_torch
from ..command.terminal import Terminal
from ..models.fetch import resolve_model


@click.command("export-hf")
@click.argument("model")
@click.argument("folder", type=OutputFolder())
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the weights with which Hugging Face computes prompts; float32 has exactly those of the file.",
)
@QUANTISE
@click.option("--force", is_flag=True, help="Replace an earlier export in that folder.")
def export_hf(model: str, folder: Path, dtype: str, quantise: str | None, force: bool) -> None:
    """Write MODEL to FOLDER as Hugging Face has models, with code that decodes on a device.

    With trust_remote_code, `from_pretrained`, `generate(custom_generate=FOLDER)` and `transformers serve` take it: they
    compute prompts, and the device each token after that.
    """
    require_torch()
    from transformers.utils import logging

    from .hugging_face import export_model

    # Our own line says how far it is.
    logging.disable_progress_bar()

    terminal = Terminal()
    path = resolve_model(model, terminal.progress)
    with terminal.phase(f"writing {folder}"):
        export_model(path, folder, dtype=dtype, quantise=quantise, replace=force, progress=terminal.progress)
    click.echo(f"{folder}: transformers serve {folder} --trust-remote-code --device cpu")
