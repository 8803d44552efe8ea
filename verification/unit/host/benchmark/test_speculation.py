"""What drafts bring: passes are counted once, at predicted cycles; the answers are compared."""

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tailrace import LanguageModel
from tailrace.benchmark.asked import Asked, texts
from tailrace.benchmark.command import bench
from tailrace.benchmark.decode_report import speculation_table
from tailrace.benchmark.models import imported_shape
from tailrace.benchmark.speculation import (
    FREE,
    LAYER,
    MODEL,
    TEXT,
    PredictedCosts,
    Speculation,
    costs_of_rows,
    measure_speculation,
)
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.image.builds import lay_out
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.predicted_cycles import PredictedCycles
from tailrace.image.programs import DRAFT
from tailrace.models.measured import SHAPES
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ConfigError, TailraceError
from tailrace.spec.linear_attention import FOLD
from verification.unit.host.tiny_models import write_model

CONFIG = "base,right_hand_sides=4"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1, context=4096)


def test_each_text_is_answered(model: Path) -> None:
    asked = {name: replace(one, text=one.text[:200], is_message=False) for name, one in texts().items()}
    found = list(measure_speculation(str(model), CONFIG, asked, tokens=24))
    assert [one.text for one in found] == list(asked)
    for one in found:
        assert one.tokens == 24
        # The first token comes from what was there, and each pass gives one and what was right of the drafts.
        assert one.passes + one.accepted == one.tokens
        assert one.accepted <= one.drafted
        assert one.ratio == one.plain / one.cycles
    assert sum(one.accepted for one in found) > 0
    # Of four texts the answers are drawn, and those are no others with drafts either: a run would end.
    assert [name for name, one in asked.items() if one.options] == [name for name in asked if name.endswith(", drawn")]


def test_a_draft_model_on_a_device_like_that_and_for_free(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model in fewer bits, which takes as long: it is asked where it is free only."""
    small = write_model(model.with_name("small.gguf"), layers=1, context=4096, default_type="Q4_0")
    asked = {"prose": Asked("xyz and so on")}
    text, dear, free = measure_speculation(str(model), CONFIG, asked, tokens=24, draft=str(small))
    assert [text.drafts, dear.drafts, free.drafts] == [TEXT, MODEL, FREE]
    assert dear.cycles == text.cycles
    assert free.accepted > text.accepted
    assert free.passes + free.accepted == 24
    assert free.cycles < text.cycles
    # One that costs next to nothing is asked, and its cycles count.
    exactly = PredictedCycles.exactly

    def cheaply(cycles: PredictedCycles, program: str, position: int) -> int:
        part = 50 if cycles._programs.image.imported.name == str(small) else 1
        return exactly(cycles, program, position) // part

    monkeypatch.setattr(PredictedCycles, "exactly", cheaply)
    text, cheap, free = measure_speculation(str(model), CONFIG, asked, tokens=24, draft=str(small))
    assert cheap.passes < text.passes
    assert free.cycles < cheap.cycles < text.cycles


def test_a_layer_that_drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cycles count, and it is no pass; neither is a fold."""
    pytest.importorskip("transformers")
    from verification.unit.host.draft_layers import make_drafting

    path, context = tmp_path / "drafting.gguf", 2 * FOLD
    make_drafting(path, "qwen35", seed=3, context=context, rotary=0.5)
    # So few tokens that random drafts are right now and then; the answer goes over a fold.
    options = {"logit_bias": dict.fromkeys(range(100, 105), 30.0), "temperature": 1.0, "seed": 5}
    asked, tokens = {"prose": Asked("x" * 20, options=options)}, FOLD + 10
    text, dear = measure_speculation(str(path), CONFIG, asked, tokens=tokens)
    assert [text.drafts, dear.drafts] == [TEXT, LAYER]
    assert text.plain == dear.plain
    for one in (text, dear):
        assert one.passes + one.accepted == tokens
    # Where rows cost nothing, and drafts next to nothing, it is asked: all beside passes and the fold is what it takes then.
    monkeypatch.setattr(PredictedCycles, "exactly", lambda _, program, __: 7 if program == DRAFT else 10_000)
    text, cheap = measure_speculation(str(path), CONFIG, asked, tokens=tokens)
    assert text.plain == 10_000 * (tokens + 1)
    assert text.cycles == 10_000 * (text.passes + 1)
    assert cheap.passes + cheap.accepted == tokens
    spent = cheap.cycles - 10_000 * (cheap.passes + 1)
    assert spent % 7 == 0
    assert 0 < spent // 7 <= 3 * cheap.passes


def test_cycles_of_a_shape(model: Path) -> None:
    """Drafts of the model, at the cycles that passes of another one take."""
    asked, build = {"prose": Asked("abcdef" * 4)}, parse_config(CONFIG)
    (found,) = measure_speculation(str(model), CONFIG, asked, tokens=6, shape="SmolLM2-135M")
    imported = imported_shape(SHAPES["SmolLM2-135M"], 4096)
    programs = lay_out(imported, Geometry.of_config(build), ImageRequest(whole_embedding=False)).programs
    cycles = PredictedCycles(programs, build)
    first = found.prompt_tokens - 1
    assert found.plain == sum(cycles.of("tokens", position) for position in range(first, first + 6))
    (own,) = measure_speculation(str(model), CONFIG, asked, tokens=6)
    assert found.plain != own.plain
    with pytest.raises(
        ConfigError, match=r"^cycles of Qwen3\.5-4B can't count in place of .*: one of them has folds, the other n"
    ):
        list(measure_speculation(str(model), "wide", asked, shape="Qwen3.5-4B"))
    command = ["speculation", str(model), "--cycles-of", "Qwen"]
    assert "--cycles-of knows no 'qwen': choose from " in CliRunner().invoke(bench, command).output


def test_costs_without_room(model: Path) -> None:
    """As many rows as nothing has room for are worth nothing."""
    programs = lay_out(import_model(open_model(model), 512), Geometry.of_config(parse_config(CONFIG)), ImageRequest()).programs
    assert PredictedCosts(programs, PredictedCycles(programs, parse_config(CONFIG))).of(5) == inf


def test_an_answer_that_changes_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = LanguageModel.generate

    def other(self: LanguageModel, prompt: Any, **options: Any) -> Any:
        return generate(self, prompt, **options, **({"logit_bias": {5: 1e5}} if options["speculate"] else {}))

    monkeypatch.setattr(LanguageModel, "generate", other)
    with pytest.raises(TailraceError, match=r"^prose: the answer is another one with drafts\. Please report this$"):
        list(measure_speculation(str(model), CONFIG, {"prose": Asked("abcdef")}, tokens=4))


def test_costs_are_predicted_and_not_measured(model: Path) -> None:
    programs = lay_out(import_model(open_model(model), 512), Geometry.of_config(parse_config(CONFIG)), ImageRequest()).programs
    cycles = PredictedCycles(programs, parse_config(CONFIG))
    costs = PredictedCosts(programs, cycles)
    assert costs.are_known
    for rows in (1, 4):
        before = costs.of(rows)
        # 512 tokens in the cache, or as many as there is room for.
        assert before == cycles.exactly(programs.name_of("tokens", [0] * rows), 512 - rows)
        costs.note(rows, 5.0)
        assert costs.of(rows) == before
    assert costs.of(1) < costs.of(4)
    assert PredictedCosts(programs, cycles, "logits").of(1) != costs.of(1)


def test_some_texts_only(model: Path) -> None:
    command = ["speculation", str(model), "--config", CONFIG, "--tokens", "4", "--texts", "story,numbers"]
    result = CliRunner().invoke(bench, command, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    rows = [line.split("│")[1].strip() for line in result.output.splitlines() if line.startswith("│")]
    assert rows == ["story, drawn", "numbers, drawn"]
    result = CliRunner().invoke(bench, ["speculation", str(model), "--texts", "poem"])
    assert result.exit_code == 2
    assert "no text begins so: choose from prose, continued; summary of a passage; " in result.output


@pytest.mark.parametrize(("cycles", "shown"), [(43.3e6, ("6.9", "7.7")), (1e6, ("300", "333"))])
def test_speeds_of_large_models_have_a_decimal(cycles: float, shown: tuple[str, str]) -> None:
    table = speculation_table([Speculation("prose", TEXT, 5, 10, 9, 2, 1, 10 * cycles, 9 * cycles)], "", 300.0)
    assert tuple(next(iter(column.cells)) for column in table.columns[-3:-1]) == shown


def test_rows_of_a_pass(model: Path) -> None:
    imported = import_model(open_model(model), 512)
    rows = costs_of_rows(imported, CONFIG, 100)
    assert len(rows) == 4
    assert rows == sorted(rows)
    assert rows[3] < 4 * rows[0]
    assert len(costs_of_rows(imported, "base", 100)) == 1
