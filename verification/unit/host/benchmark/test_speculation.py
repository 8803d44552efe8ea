"""What drafts bring: passes are counted once, at predicted cycles; the answers are compared."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tailrace import LanguageModel
from tailrace.benchmark import speculation
from tailrace.benchmark.speculation import SOURCES, PredictedCosts, costs_of_rows, measure_speculation, texts
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.image.builds import lay_out
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.predicted import predict_step
from tailrace.spec.config import parse_config
from tailrace.spec.errors import TailraceError
from verification.unit.host.tiny_models import write_model

CONFIG = "base,right_hand_sides=4"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1, context=4096)


def test_each_text_is_answered(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {name: text[:200] for name, text in texts().items() if isinstance(text, str)}
    monkeypatch.setattr(speculation, "texts", lambda: asked)
    found = list(measure_speculation(str(model), CONFIG, tokens=24))
    assert [one.text for one in found] == list(asked)
    for one in found:
        assert one.tokens == 24
        # The first token comes from what was there, and each pass gives one and what was right of the drafts.
        assert one.passes + one.accepted == one.tokens
        assert one.accepted <= one.drafted
        assert one.ratio == one.plain / one.cycles
    assert sum(one.accepted for one in found) > 0


def test_a_draft_model_on_a_device_like_that_and_for_free(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model in fewer bits, which takes as long: it is asked where it is free only."""
    small = write_model(model.with_name("small.gguf"), layers=1, context=4096, default_type="Q4_0")
    monkeypatch.setattr(speculation, "texts", lambda: {"prose": "xyz and so on"})
    text, dear, free = measure_speculation(str(model), CONFIG, tokens=24, draft=str(small))
    assert (text.drafts, dear.drafts, free.drafts) == SOURCES
    assert dear.cycles == text.cycles
    assert free.accepted > text.accepted
    assert free.passes + free.accepted == 24
    assert free.cycles < text.cycles
    # One that costs next to nothing is asked, and its cycles count.
    cycles = PredictedCosts.cycles
    monkeypatch.setattr(PredictedCosts, "cycles", lambda costs, *a: cycles(costs, *a) // (50 if costs._kind == "logits" else 1))
    text, cheap, free = measure_speculation(str(model), CONFIG, tokens=24, draft=str(small))
    assert cheap.passes < text.passes
    assert free.cycles < cheap.cycles < text.cycles


def test_an_answer_that_changes_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculation, "texts", lambda: {"prose": "abcdef"})
    generate = LanguageModel.generate

    def other(self: LanguageModel, prompt: Any, **options: Any) -> Any:
        return generate(self, prompt, **options, **({"logit_bias": {5: 1e5}} if options["speculate"] else {}))

    monkeypatch.setattr(LanguageModel, "generate", other)
    with pytest.raises(TailraceError, match=r"^prose: the answer is another one with drafts\. Please report this$"):
        list(measure_speculation(str(model), CONFIG, tokens=4))


def test_cycles_are_predicted_at_knots(model: Path) -> None:
    programs = lay_out(import_model(open_model(model), 512), Geometry.of_config(parse_config(CONFIG)), ImageRequest()).programs
    costs = PredictedCosts(programs, parse_config(CONFIG), "ideal")

    def cycles(position: int) -> int:
        return predict_step(programs, parse_config(CONFIG), position, program="tokens").cycles

    assert costs.sum(Counter({("tokens", 128): 2, ("tokens", 0): 1})) == 2 * cycles(128) + cycles(0)
    assert costs.sum({("tokens", 160): 4}) == 3 * cycles(128) + cycles(256)
    assert costs.sum({("tokens", 511): 1}) == cycles(511)
    before = costs.of(1)
    costs.note(1, 5.0)
    assert costs.of(1) == before


def test_rows_of_a_pass(model: Path) -> None:
    imported = import_model(open_model(model), 512)
    rows = costs_of_rows(imported, CONFIG, 100)
    assert len(rows) == 4
    assert rows == sorted(rows)
    assert rows[3] < 4 * rows[0]
    assert len(costs_of_rows(imported, "base", 100)) == 1
