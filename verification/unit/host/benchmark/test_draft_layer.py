"""What a layer that drafts takes, predicted: of a small hybrid, with the programs that a decoder runs."""

from dataclasses import replace

import pytest

from tailrace.benchmark import draft_layer
from tailrace.benchmark.draft_layer import DraftCost, draft_table, predict_draft
from tailrace.models.measured import SHAPES
from tailrace.spec.errors import LimitError

SMALL = replace(
    SHAPES["Qwen3.5-4B"], layers=4, hidden=256, heads=4, kv_heads=2, head_size=64, feed_forward=512, vocabulary=2048,
    rotary=32, linear=(2, 4, 64, 64),
)  # fmt: skip


def test_a_draft_and_the_passes_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(draft_layer.SHAPES, "small", SMALL)
    cost = predict_draft("small", "wide", 100)
    # The layer's keys and values are little beside all layers; a draft is one layer and the head.
    assert cost.plain < cost.filling < 1.5 * cost.plain
    assert cost.draft < cost.plain
    assert cost.filling < cost.two < 2 * cost.filling
    assert predict_draft("small", "wide", 1000).draft > cost.draft
    with pytest.raises(LimitError, match="takes 1 to 1 rows, not 2"):
        predict_draft("small", "base", 100)


def test_where_it_pays() -> None:
    cost = DraftCost("m", 100, 101, 10, 120)
    assert cost.least == pytest.approx(0.3)
    (column,) = (column for column in draft_table([cost], "t").columns if column.header == "pays from")
    assert list(column.cells) == ["30%"]
