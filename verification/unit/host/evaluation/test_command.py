"""``tailrace eval`` before lm_eval is asked for anything."""

import importlib.util
from typing import Any

import pytest
from click.testing import CliRunner

from tailrace.command.cli import main


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name == "lm_eval" else there(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    run = CliRunner().invoke(main, ["eval", "shakespeare"])
    assert run.exit_code == 1
    assert run.stdout == ""
    assert run.stderr == (
        "tailrace: the Python package lm-eval is needed for tailrace eval: in Tailrace's folder run .venv/bin/pip install --no-deps"
        " --require-hashes -r requirements/eval.txt\n"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--limit", "0"], "'--limit': 0 is not in the range x>=1."),
        (["--batch", "3"], "'--batch': '3' is not one of '1', '2', '4'."),
        (["--task-folder", "nowhere"], "Directory 'nowhere' does not exist."),
    ],
)
def test_options_out_of_range(arguments: list[str], text: str) -> None:
    run = CliRunner().invoke(main, ["eval", "shakespeare", *arguments])
    assert run.exit_code == 2
    assert text in run.stderr


def test_help() -> None:
    run = CliRunner().invoke(main, ["eval", "--help"])
    assert run.exit_code == 0
    assert "Evaluate MODEL with lm_eval" in run.stdout
