"""Random models of all architectures in files of llama.cpp's own converter: the device, llama.cpp and transformers compared.

``python -m verification.converted FOLDER`` installs the converter below that folder the first time, and prints a table. Nothing
of ours is between transformers' model and llama.cpp's logits.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from tailrace.gguf.file import open_model
from verification.architectures import POSITIONS, open_decoder
from verification.llama_cpp_logits import in_llama_cpp
from verification.unit.host.architectures import ARCHITECTURES
from verification.unit.host.references import decode, divergence, reference_logits
from verification.unit.host.transformers_models import gguf_name

from .checkpoints import save
from .converter import CONVERTER, convert, installed

#: Whose rows of q and k the converter puts in pairs although nothing is rotated, so that blocks of keys are others.
_IN_PAIRS = ("nemotron_h", "nemotron_h_moe")


def measured(architecture: str, seed: int, converter: Path, kind: str) -> tuple[Any, Any, Any, Any]:
    """Divergence at each position.

    Of the device from llama.cpp, from transformers, and from transformers with the device's 8-bit keys and values, which the
    experts that it chooses follow from (None where these lie in another order); then of llama.cpp from transformers.

    Raises
    ------
    CalledProcessError
        If the converter does not take the checkpoint.
    ValueError
        If it makes a file of another architecture of it.
    """
    with TemporaryDirectory() as work:
        folder = Path(work)
        model, path = save(folder, architecture, seed), folder / "converted.gguf"
        convert(converter, architecture, folder / "checkpoint", path, kind)
        if (name := open_model(path).architecture.name) != gguf_name(architecture):
            raise ValueError(f"the converter makes a file of {name} of it")
        tokens = [int(t) for t in np.random.default_rng(seed).integers(0, model.config.get_text_config().vocab_size, POSITIONS)]
        theirs = in_llama_cpp(path, tokens)
        decoder = open_decoder(path, "base,right_hand_sides=4", POSITIONS, "emulator")
        ours, held = decode(decoder, tokens)
        decoder.device.close()
    reference = reference_logits(model, tokens)
    same_codes = None if architecture in _IN_PAIRS else divergence(reference_logits(model, tokens, held), ours)
    return divergence(theirs, ours), divergence(reference, ours), same_codes, divergence(reference, theirs)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--architecture", "architectures", multiple=True, type=click.Choice(ARCHITECTURES), help="Default: all.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(1, 2, 3), show_default=True)
@click.option(
    "--type", "kind", type=click.Choice(["q8_0", "f32"]), default="q8_0", help="Of matrices: the same numbers in both."
)
def main(folder: Path, architectures: tuple[str, ...], seeds: tuple[int, ...], kind: str) -> None:
    """Measure, and print a table."""
    converter, console = installed(folder), Console(stderr=True)
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
                found = measured(architecture, seed, converter, kind)
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
