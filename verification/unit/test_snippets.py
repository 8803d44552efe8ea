"""Python in the documents: what can be run by itself is run, and what is imported is there."""

import ast
import re
import runpy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from verification.packages import ROOT
from verification.unit.host.tiny_models import write_model

PAGES = ("README.md", "docs/getting-started.md", "docs/api.md")


def blocks(page: Path) -> list[tuple[int, str]]:
    """Python blocks of a page, each with the line where it begins."""
    text = page.read_text()
    return [(text.count("\n", 0, m.start(1)), m[1]) for m in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)]


def given(page: str, folder: Path) -> dict[str, Any]:
    """What a page takes for granted."""
    if "hugging_face_model" not in (ROOT / page).read_text():
        write_model(folder / "model.gguf", context=512, layers=1)
        return {}
    torch = pytest.importorskip("torch")
    from verification.unit.host.transformers_models import make_model

    model = make_model(folder / "model.gguf", "llama", layers=1, context=512)
    return {"hugging_face_model": model, "inputs": {"input_ids": torch.tensor([[1, 5, 9]])}}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, in order, as one program, in a folder with a small model."""
    names = given(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "program.py"
    lines: list[str] = []
    for first, block in blocks(ROOT / page):
        # Errors then name the page's own lines.
        lines += [""] * (first - len(lines)) + block.splitlines()
    program.write_text("\n".join(lines) + "\n")
    runpy.run_path(str(program), init_globals=names)


def test_blocks_are_found() -> None:
    assert len(blocks(ROOT / "docs/api.md")) > 5
    line, block = blocks(ROOT / "docs/api.md")[0]
    assert (ROOT / "docs/api.md").read_text().splitlines()[line] == block.splitlines()[0] == "import tailrace"


def test_what_pages_import_is_there() -> None:
    """In every block of every page, run or not."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for line, block in blocks(page):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tailrace"):
                    module = import_module(str(node.module))
                    for alias in node.names:
                        assert hasattr(module, alias.name), f"{page}:{line + node.lineno}: {node.module} has no {alias.name}"
