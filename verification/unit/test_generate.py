"""What docs/generate.py writes into a page, and what it refuses. That the pages are up to date is tested with the house."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from tailrace.hdl.float.total import Total
from tailrace.hdl.gemv.engine import GemvEngine
from tailrace.hdl.gemv.lane import Lane
from tailrace.hdl.slots.loader import VectorLoader
from tailrace.spec.config import CONFIGS
from verification.packages import ROOT

TABLE = "| Component | File | Latency |\n| --- | --- | --- |\n| `Lane` | `lane.py` | {} |\n"


@pytest.fixture(scope="module")
def generate() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "generate.py"))


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_figures_are_those_of_the_components(generate: dict[str, Any], tmp_path: Path) -> None:
    text = (
        "It takes {}<!-- GemvEngine.latency --> cycles, {}<!-- Total(2).latency --> for 5,"
        " {}<!-- VectorLoader(wide).commit_latency -->.\n"
    )
    figures = GemvEngine.latency, Total(2).latency, VectorLoader(CONFIGS["wide"]).commit_latency
    assert generate["block_page"](page(tmp_path, text.format(1, 22, 333))) == text.format(*figures)


def test_a_latency_without_a_source_is_refused(generate: dict[str, Any], tmp_path: Path) -> None:
    block_page = generate["block_page"]
    for latency in ("none", "see below", f"{Lane.latency}<!-- Lane.latency -->"):
        assert block_page(page(tmp_path, TABLE.format(latency))) == TABLE.format(latency)
    # A table of something else.
    other = TABLE.format("11").replace("Latency", "Bits")
    assert block_page(page(tmp_path, other)) == other
    with pytest.raises(ValueError) as error:
        block_page(page(tmp_path, TABLE.format("11")))
    assert str(error.value) == "page.md: whose attribute is this latency? | `Lane` | `lane.py` | 11 |"


def test_a_component_that_there_is_not_is_refused(generate: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        generate["block_page"](page(tmp_path, "5<!-- NoSuch.latency -->"))
    assert str(error.value) == "0 components in hdl/ are called NoSuch"


def test_one_page_and_a_page_that_there_is_not(generate: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert generate["main"](["--check", "registers.md"]) == 0
    with pytest.raises(SystemExit):
        generate["main"](["register.md"])
    assert "there is no page register.md that is generated: choose from architecture.md, " in capsys.readouterr().err
