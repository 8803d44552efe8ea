"""Random models of all architectures in files of llama.cpp's own converter: the device, llama.cpp and transformers compared.

``python -m verification.converted FOLDER`` installs the converter below that folder the first time, and prints a table. Nothing
of ours is between transformers' model and llama.cpp's logits.
"""

from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from verification.architectures import POSITIONS
from verification.unit.host.architectures import ARCHITECTURES

from .apart import Apart
from .converter import CONVERTER, installed
from .measure import measured


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--architecture", "architectures", multiple=True, type=click.Choice(ARCHITECTURES), help="Default: all.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(1, 2, 3), show_default=True)
@click.option(
    "--type", "kind", type=click.Choice(["q8_0", "f32"]), default="q8_0", help="Of matrices: the same numbers in both."
)
def main(folder: Path, architectures: tuple[str, ...], seeds: tuple[int, ...], kind: str) -> None:
    """Measure, and print a table."""
    converter, console, apart = installed(folder), Console(stderr=True), Apart()
    table = Table(title=f"mean divergence over {POSITIONS} positions, in nats; files of {CONVERTER}, {kind}")
    for title in (
        "architecture",
        "shape",
        "llama.cpp to device",
        "its median",
        "transformers to device",
        "the same codes in both",
        "transformers to llama.cpp",
    ):
        table.add_column(title, justify="left" if title == "architecture" else "right")
    for architecture in architectures or ARCHITECTURES:
        for seed in seeds:
            try:
                found = apart.call(measured, architecture, seed, converter, kind)
            except Exception as error:
                text = getattr(error, "stderr", None) or f"{type(error).__name__}: {error}"
                console.print(f"{architecture}, {seed}: {text.strip().splitlines()[-1][:200]}", markup=False)
                table.add_row(architecture, str(seed), "not to be had")
                continue
            means = ["" if one is None else f"{one.mean():.1e}" for one in found]
            table.add_row(architecture, str(seed), means[0], f"{np.median(found[0]):.1e}", *means[1:])
            console.print(f"{architecture}, {seed}: {', '.join(means)}", markup=False)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
