"""Texts of which no draft is ever right: whoever drafts, and whatever that takes, next to nothing is lost."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tailrace.benchmark.asked import Asked
from tailrace.benchmark.speculation import FREE, LAYER, MODEL, TEXT, Speculation, measure_speculation
from tailrace.generation.lookup import Lookup
from tailrace.image.predicted_cycles import PredictedCycles
from tailrace.image.programs import DRAFT
from verification.unit.host.tiny_models import write_model

pytest.importorskip("transformers")
from verification.unit.host.draft_layers import make_drafting

#: Part of the speed without drafts that is kept, and from how many tokens on.
LEAST, TOKENS, CONFIG = 0.98, 90, "base,right_hand_sides=4"
PASS, LURE, FEW = 100_000, 100, range(101, 105)


@dataclass(frozen=True)
class Prices:
    """What something takes, as a part of a pass: a row more, a draft, filling the cache of a layer that drafts."""

    row: float
    draft: float
    filling: float

    def cycles(self, of: PredictedCycles, program: str) -> int:
        """Cycles of a program in place of predicted ones."""
        run = of._programs.loaded[program]
        if not run.rows:
            return 0
        if program.startswith(DRAFT) or Path(of._programs.image.imported.name).stem == "small":
            return round(PASS * self.draft)
        filling = self.filling if run.fills and of._programs.image.imported.description.draft_layer else 0.0
        return round(PASS * (1 + self.row * (len(run.rows) - 1)) * (1 + filling))


PRICES = {
    "all cheap": Prices(0.05, 0.06, 0.004),
    "filling is dear": Prices(0.02, 0.02, 0.06),
    "rows are dear": Prices(0.45, 0.001, 0.001),
    "drafts are dear": Prices(0.01, 0.4, 0.01),
    "all dear": Prices(0.3, 0.3, 0.3),
}


def never_right(tokens: Any, logits: Any) -> Any:
    """Not what models and layers draft, whom the bias lures; and not what followed the last time."""
    logits = logits.copy()
    logits[[LURE, *Lookup().draft([int(token) for token in tokens], 1).tokens]] = -1e9
    return logits


ASKED = Asked("abcabcabd", options={"logit_bias": {LURE: 90.0, **dict.fromkeys(FEW, 60.0)}, "logits_processor": never_right})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Speculation]]]:
    """By prices and drafts: the same text is answered at all prices, which change as the next answer is announced."""
    folder = tmp_path_factory.mktemp("models")
    make_drafting(folder / "layer.gguf", "qwen35", seed=3, context=128, rotary=0.5)
    write_model(folder / "large.gguf", layers=1, context=128)
    write_model(folder / "small.gguf", layers=1, context=128, seed=2)
    now, all_found = next(iter(PRICES.values())), dict[str, dict[str, Speculation]]()

    def change(name: str, _: float) -> None:
        nonlocal now
        now = PRICES.get(name, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PredictedCycles, "exactly", lambda of, program, _: now.cycles(of, program))
        for model, draft in (("layer.gguf", None), ("large.gguf", str(folder / "small.gguf"))):
            for one in measure_speculation(
                str(folder / model), CONFIG, dict.fromkeys(PRICES, ASKED), tokens=TOKENS, draft=draft, on_progress=change
            ):
                all_found.setdefault(one.text, {})[f"{model}, {one.drafts}"] = one
        yield all_found


@pytest.mark.parametrize("prices", PRICES)
def test_next_to_nothing_is_lost(prices: str, found: dict[str, dict[str, Speculation]]) -> None:
    by_source = found[prices]
    assert [source.split(", ", 1)[1] for source in by_source] == [TEXT, LAYER, TEXT, MODEL, FREE]
    assert {source: one.accepted for source, one in by_source.items() if one.accepted} == {}
    assert {source: one.passes for source, one in by_source.items() if one.passes != TOKENS} == {}
    assert {source: one.ratio for source, one in by_source.items() if one.ratio < LEAST} == {}


@pytest.mark.parametrize("prices", ["all cheap", "filling is dear"])
def test_who_may_pay_is_tried(prices: str, found: dict[str, dict[str, Speculation]]) -> None:
    """And takes its part of what drafts from the text would take alone, which are wrong as well."""
    text, layer, without, model, _ = found[prices].values()
    assert min(one.drafted for one in found[prices].values()) > 0
    assert layer.drafted < text.drafted
    assert model.drafted < without.drafted
