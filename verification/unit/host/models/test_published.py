"""Published models: all of them are planned, on every named build, and the table of docs/models.md says what comes of it."""

import re
from pathlib import Path

import numpy as np
import pytest

from tailrace.benchmark.models import BOARDS, CONTEXT, UTILISATION, imported_shape, needs_of, table_rows
from tailrace.image.builds import choose, smallest_build
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.layout import fits
from tailrace.models.published import PUBLISHED
from tailrace.models.shapes import Shape
from tailrace.spec.config import CONFIGS

PAGE = Path(__file__).parents[4] / "docs" / "models.md"


def by_name(name: str) -> Shape:
    return next(shape for shape in PUBLISHED if shape.name == name)


@pytest.mark.parametrize("shape", PUBLISHED, ids=lambda s: s.name)
def test_every_model_has_a_build(shape: Shape) -> None:
    """With 2,048 tokens, or all that it was trained for; and a build takes what a smaller one takes, but for its right-hand sides.

    `arty` is for what fits its board's memory.
    """
    model, request = imported_shape(shape, min(CONTEXT, shape.context)), ImageRequest()
    takes = {name: fits(model, Geometry.of_config(config), request) for name, config in CONFIGS.items() if name != "arty"}
    assert takes["wide"]
    assert list(takes.values()) == sorted(takes.values())
    build = smallest_build(model, request)
    assert build.name == next(name for name, taken in takes.items() if taken and name != "tiny")


@pytest.mark.parametrize("name", ["Llama-2-7B", "Mixtral-8x7B", "Qwen2.5-0.5B", "Phi-4-mini", "GPT-2"])
def test_they_run_by_default(name: str) -> None:
    """All of a model is laid out, with programs."""
    shape = by_name(name)
    chosen = choose(imported_shape(shape, min(CONTEXT, shape.context)), ImageRequest())
    assert len(chosen.layout.image.imported.description.layers) == shape.layers
    assert set(chosen.layout.programs.loaded) == {"prompt", "logits", "tokens"}


def rows_of_page() -> dict[str, list[str]]:
    """Rows of the table in docs/models.md, by model."""
    lines = PAGE.read_text().partition("<!-- Written by docs/generate.py: `tailrace bench models`. -->")[2].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| [^-]", line)]
    return {row[0]: row for row in rows[1:]}


def test_the_page_has_every_model() -> None:
    assert list(rows_of_page()) == [shape.name for shape in PUBLISHED]


def test_rows_of_the_page(rng: np.random.Generator) -> None:
    """Some of them, drawn; the slow test has them all."""
    for n in rng.choice(len(PUBLISHED), 3, replace=False):
        _, row = table_rows([needs_of(PUBLISHED[n])])
        assert rows_of_page()[PUBLISHED[n].name] == list(row)


@pytest.mark.slow
def test_all_rows_of_the_page() -> None:
    titles, *rows = table_rows(map(needs_of, PUBLISHED))
    assert len(titles) == 5 + len(BOARDS)
    assert list(rows_of_page().values()) == [list(row) for row in rows]


def test_predictions_are_the_memory_over_the_bytes() -> None:
    needs = needs_of(by_name("Llama-3.2-1B"))
    arty, kv260, _ = BOARDS
    assert needs.memory > arty.memory
    assert needs.speed(arty) is None
    assert needs.speed(kv260) == pytest.approx(UTILISATION * 4.8e9 / needs.token_bytes)
