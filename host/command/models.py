"""Lists the architectures that are known."""

import click
from rich.table import Table

from ..gguf.architectures import ARCHITECTURES
from ..gguf.features import features
from .plain_console import PlainConsole

#: What any file of any of them may have.
EVERYWHERE = (
    "Biases, experts (some of the layers may have none), experts that all tokens share, biases that choose among experts,"
    " scaled RoPE (linear, YaRN, LongRoPE, Llama 3), and sizes that differ from layer to layer: wherever a file has them."
)


@click.command()
def models() -> None:
    """List the architectures whose models run, with what is special about each.

    A GGUF file names its architecture; `tailrace inspect MODEL` shows it, and what is made of the file.
    """
    table = Table("architecture", "models", "what is special")
    for architecture in ARCHITECTURES.values():
        table.add_row(architecture.name, architecture.models, features(architecture))
    console = PlainConsole()
    if not console.is_terminal:
        console.width = 160
    console.print(table)
    click.echo(EVERYWHERE)
