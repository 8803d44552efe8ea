"""Prompts: what is predicted is the sum of all passes."""

from pathlib import Path

from click.testing import CliRunner

from tailrace.benchmark import prompt
from tailrace.benchmark.command import bench
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.image.builds import lay_out
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.predicted_cycles import PredictedCycles
from tailrace.spec.config import parse_config
from verification.unit.host.tiny_models import write_model

CONFIG = "base,right_hand_sides=4"


def test_every_pass_counts_once(tmp_path: Path) -> None:
    """11 tokens are two passes of 4, and one of 3."""
    imported = import_model(open_model(write_model(tmp_path / "model.gguf")))
    programs = lay_out(imported, Geometry.of_config(parse_config(CONFIG)), ImageRequest(whole_embedding=False)).programs

    def rows_of(count: int) -> str:
        return programs.name_of("prompt", (0,) * count)

    cycles = PredictedCycles(programs, parse_config(CONFIG)).of
    found = prompt.predict_prompt("model", imported, CONFIG, tokens=11)
    assert found.single == round(sum(cycles("prompt", position) for position in range(11)))
    assert found.together == round(cycles(rows_of(4), 0) + cycles(rows_of(4), 4) + cycles(rows_of(3), 8))
    assert (found.model, found.rows, found.tokens, found.memory) == ("model", 4, 11, "ideal")
    assert found.ratio == found.single / found.together > 1
    # Nine tokens leave one for a pass of its own.
    found = prompt.predict_prompt("model", imported, CONFIG, tokens=9)
    assert found.together == round(cycles(rows_of(4), 0) + cycles(rows_of(4), 4) + cycles("prompt", 8))


def test_a_build_of_one_row_takes_a_token_at_a_time(tmp_path: Path) -> None:
    imported = import_model(open_model(write_model(tmp_path / "model.gguf")))
    found = prompt.predict_prompt("model", imported, "base", tokens=61)
    assert found.rows == 1
    assert found.single == found.together


def test_models_are_known_ones() -> None:
    result = CliRunner().invoke(bench, ["prompt", "--models", "gpt-9"])
    assert result.exit_code == 2
    assert "--models knows no 'gpt-9': choose from " in result.output


def test_no_pass_goes_over_a_fold() -> None:
    assert prompt.passes_of(10, 4, 10) == {4: [0, 4], 2: [8]}
    assert prompt.passes_of(10, 3, 4) == {3: [0, 4], 1: [3, 7], 2: [8]}
    assert prompt.passes_of(3, 1, 3) == {1: [0, 1, 2]}
