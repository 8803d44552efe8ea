"""How often a trained layer's drafts are right: ``python -m verification.trained.drafts FOLDER``.

Trains a small hybrid and its layer that drafts (minutes of processor time), has their file written by llama.cpp's converter,
and counts on text that neither has seen.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import tailrace
from tailrace.command.terminal import Terminal
from tailrace.generation import answer as answers
from tailrace.generation.depth import Costs
from tailrace.generation.draft import Draft
from tailrace.gguf.file import open_model
from tailrace.gguf.writer import NewTensor, write_gguf
from tailrace.models.fetch import resolve_model
from verification.converted.converter import convert, installed
from verification.unit.host.transformers_models import header_values

from .draft_layer import save, train_layer
from .train import KEPT, text, train

ARCHITECTURE = "qwen35"
#: Tokens of a prompt and of an answer, and drafts of a pass at most: as many as rows are left.
PROMPT, ANSWER, DEEPEST = 128, 128, 3
CHOICES: dict[str, dict[str, Any]] = {"greedy": {}, "drawn": {"temperature": 1.0, "seed": 1}}


class _Free(Costs):
    """Times of rows, or of drafts, that cost nothing: each that can be had is taken."""

    are_known = True

    def __init__(self, time: float) -> None:
        super().__init__()
        self._time = time

    def note(self, rows: int, seconds: float) -> None:
        """Nothing."""

    def of(self, rows: int) -> float:
        return self._time


class _Nothing:
    """In place of drafts from the text."""

    def draft(self, tokens: Sequence[int], most: int) -> Draft:
        return Draft()


@dataclass(frozen=True)
class Counted:
    """Answers of one kind.

    Attributes
    ----------
    tokens, passes : int
    right : tuple of float
        Of the first, second, ... draft of a pass: how often it was right, if those before it were.
    """

    tokens: int
    passes: int
    right: tuple[float, ...]


def write_model(model: Any, layer: Any, converter: Path, path: Path) -> None:
    """The converter's tensors, with the tokenizer of the small model that comes along."""
    with TemporaryDirectory() as work:
        checkpoint, converted = Path(work) / "checkpoint", Path(work) / "converted.gguf"
        save(model, layer, checkpoint)
        convert(converter, ARCHITECTURE, checkpoint, converted, options=())
        made = open_model(converted)
        if not made.has_draft_layer:
            raise ValueError("the converter has left the layer out")
        own = open_model(resolve_model("shakespeare")).header
        values = {k: v for k, v in header_values(ARCHITECTURE, model.config).items() if not k.startswith("tokenizer.")}
        values |= {f"{ARCHITECTURE}.block_count": made.blocks, f"{ARCHITECTURE}.nextn_predict_layers": 1}
        values |= {key: value for key, value in own.scalars().items() if key.startswith("tokenizer.")}
        values |= {key: own.texts(key) for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")}
        values["tokenizer.ggml.token_type"] = own.integers("tokenizer.ggml.token_type", 0, 10)
        tensors = [NewTensor(t.name, t.shape, t.type_name, np.array(t.data)) for t in made.tensors.values()]
        write_gguf(path, ARCHITECTURE, values, tensors)


def count(path: Path, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[str, Counted]]:
    """Answer prompts with as many drafts as there is room for; the answers are compared with those without."""
    with tailrace.load(path, config="base,right_hand_sides=4", context=KEPT) as lm:
        for name, options in CHOICES.items():
            wanted: Any = {"max_tokens": ANSWER, "ignore_ends": True, **options}
            plain = [lm.generate(list(prompt), speculate=False, **wanted) for prompt in prompts]
            drafting = lm.engine.drafting
            assert drafting is not None
            lm.engine.costs, drafting.costs = _Free(1.0), _Free(1e-6)
            seen, right, learn = Counter[int](), Counter[int](), drafting.learn

            def note(
                place: int, verified: int, accepted: int, learn: Any = learn, seen: Any = seen, right: Any = right
            ) -> None:
                seen.update(range(min(accepted + 1, verified)))
                right.update(range(accepted))
                learn(place, verified, accepted)

            before = Counter(lm.decoder.steps)
            with patch.object(answers, "Lookup", lambda first, told: _Nothing()), patch.object(drafting, "learn", note):
                found = [lm.generate(list(prompt), **wanted) for prompt in prompts]
            if [one.tokens for one in found] != [one.tokens for one in plain]:
                raise AssertionError("an answer is another one with drafts")
            steps = Counter(lm.decoder.steps) - before
            passes = sum(n for (program, _), n in steps.items() if program.startswith(("tokens", "logits")))
            tokens = sum(len(one.tokens) for one in found)
            yield name, Counted(tokens, passes, tuple(right[n] / seen[n] for n in range(DEEPEST)))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=1), default=400, show_default=True, help="Of training, of each of the two.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(folder: Path, steps: int, seed: int) -> None:
    """Train, count, and print a table; the model stays in FOLDER."""
    converter, terminal, tokens = installed(folder), Terminal(), text()
    path = folder / "drafting.gguf"
    with terminal.phase(f"training {ARCHITECTURE}"):
        model = train(ARCHITECTURE, tokens, steps, seed, terminal.progress)
        write_model(model, train_layer(model, ARCHITECTURE, tokens, steps, seed, terminal.progress), converter, path)
    kept = tokens[-KEPT:].tolist()
    prompts = [kept[first : first + PROMPT] for first in range(0, KEPT, 2 * PROMPT)]
    table = Table(title=f"drafts of the layer, {len(prompts)} answers of {ANSWER} tokens, seed {seed}, {steps} steps")
    for title in ("answer", "tokens", "passes", "tokens a pass", *(f"draft {n + 1} right" for n in range(DEEPEST))):
        table.add_column(title, justify="left" if title == "answer" else "right")
    with terminal.phase("answering"):
        for name, found in count(path, prompts):
            each = f"{found.tokens / found.passes:.2f}"
            table.add_row(name, str(found.tokens), str(found.passes), each, *(f"{part:.1%}" for part in found.right))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
