"""Help texts: options under headings, whole summaries."""

import click
import pytest
from click.testing import CliRunner

from tailrace.command.cli import main
from tailrace.command.grouped_help import OTHER, GroupedCommand


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    return result.stdout


def test_options_stand_under_headings() -> None:
    text = help_of("run")
    headings = ["Prompt and answer:", "Choice of tokens:", "Device:", "Model:", "Cycles:", f"{OTHER}:"]
    assert [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")] == headings
    places = [text.index(f"  {name}") for name in ("-p, --prompt", "--device", "--path", "--memory-timing", "-h, --help")]
    assert places == sorted(places)
    # What no group names is the help alone.
    assert text[text.index(f"{OTHER}:") :].splitlines()[1].split()[:2] == ["-h,", "--help"]


def test_summaries_are_whole() -> None:
    text = help_of()
    rows = text[text.index("Commands:") :]
    assert "..." not in rows
    for name in main.list_commands(click.Context(main)):
        assert f"\n  {name} " in rows


def test_a_group_of_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="^x has no parameter wave$"):
        GroupedCommand("x", groups={"Simulation": ["wave"]})
