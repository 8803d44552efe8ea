"""Small models, trained on the text that comes along: the device beside transformers in float32.

``python -m verification.trained FOLDER`` trains a hybrid and a mixture (minutes of processor time), has their files written by
llama.cpp's converter, which it installs below the folder the first time, and prints a table.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tailrace.benchmark.comparison import Quality
from tailrace.benchmark.tally import Tally
from tailrace.command.terminal import Terminal
from verification.architectures import open_decoder
from verification.converted.converter import convert, installed
from verification.unit.host.references import reference_logits

from .state_widths import coded
from .train import KEPT, MODELS, text, train

POSITIONS = 512
WIDTHS = (8, 12, 16)


def on_device(model: Any, architecture: str, tokens: list[int], converter: Path) -> NDArray[np.float32]:
    """Logits of the device, which reads the file that llama.cpp's converter makes of a model."""
    with TemporaryDirectory() as work:
        checkpoint, path = Path(work) / "checkpoint", Path(work) / "converted.gguf"
        model.save_pretrained(checkpoint)
        convert(converter, architecture, checkpoint, path, "bf16")
        decoder = open_decoder(path, "base,right_hand_sides=4", len(tokens), "emulator")
        try:
            return np.array([decoder.step(token) for token in tokens])
        finally:
            decoder.device.close()


def compared(reference: NDArray[Any], logits: NDArray[Any], following: NDArray[np.int64]) -> Quality:
    """How far logits are from the reference's."""
    tally = Tally()
    tally.add(*(torch.from_numpy(np.asarray(x, dtype=np.float32)) for x in (reference, logits)), torch.from_numpy(following))
    return tally.result(POSITIONS)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--architecture", "architectures", multiple=True, type=click.Choice(list(MODELS)), help="Default: both.")
@click.option("--steps", type=click.IntRange(min=1), default=400, show_default=True, help="Of training.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(folder: Path, architectures: tuple[str, ...], steps: int, seed: int) -> None:
    """Train, measure, and print a table."""
    converter, terminal, tokens = installed(folder), Terminal(), text()
    asked, following = tokens[-KEPT:][:POSITIONS].tolist(), tokens[-KEPT:][1 : POSITIONS + 1]
    table = Table(title=f"{POSITIONS} positions of text that the models have not seen, seed {seed}, {steps} steps")
    for title in ("model", "state and list", "mean KL, nats", "largest", "same best token", "perplexity", "in float32"):
        table.add_column(title, justify="left" if title in ("model", "state and list") else "right")

    def add(model: str, kept: str, found: Quality) -> None:
        table.add_row(
            model, kept, f"{found.mean_divergence:.2e}", f"{found.largest_divergence:.2e}", f"{found.same_best:.1%}",
            f"{found.device_perplexity:.4f}", f"{found.reference_perplexity:.4f}",
        )  # fmt: skip

    for architecture in architectures or MODELS:
        with terminal.phase(f"training {architecture}"):
            model = train(architecture, tokens, steps, seed, terminal.progress)
        reference = reference_logits(model, asked)
        with terminal.phase(f"decoding {POSITIONS} positions with {architecture}"):
            found = compared(reference, on_device(model, architecture, asked, converter), following)
        add(architecture, "16 bits, the device's" if architecture == "qwen35" else "none", found)
        for bits in WIDTHS if architecture == "qwen35" else ():
            with terminal.phase(f"{bits} bits"), coded(bits):
                add("transformers", f"{bits} bits", compared(reference, reference_logits(model, asked), following))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
