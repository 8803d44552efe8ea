"""Drafts of a real model's own text, at predicted cycles: never a loss, and a gain where the text is there already."""

from pathlib import Path

import pytest

from tailrace.benchmark.asked import texts
from tailrace.benchmark.speculation import Speculation, measure_speculation
from tailrace.models.fetch import resolve_model
from tailrace.spec.errors import ToolError

#: Part of the speed without drafts that every text keeps; and what editing reaches at least.
LEAST, EDITED = 0.98, 1.5


@pytest.fixture(scope="module")
def path() -> Path:
    try:
        return resolve_model("smollm2")
    except ToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def found(path: Path) -> dict[str, Speculation]:
    return {one.text: one for one in measure_speculation(str(path), "wide", texts())}


@pytest.mark.slow
def test_no_text_is_slower(found: dict[str, Speculation]) -> None:
    assert {name: one.ratio for name, one in found.items() if one.ratio < LEAST} == {}


@pytest.mark.slow
def test_editing_is_faster(found: dict[str, Speculation]) -> None:
    edited = {name: one.ratio for name, one in found.items() if "edited" in name}
    assert len(edited) == 2
    assert min(edited.values()) >= EDITED, edited
