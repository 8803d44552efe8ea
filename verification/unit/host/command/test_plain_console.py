"""Names from files and paths are shown as they are: no markup, no commands for the terminal."""

import io
from pathlib import Path

import pytest
from rich.table import Table

import tailrace.command
from tailrace.command.plain_console import PlainConsole
from tailrace.command.terminal import Terminal

NAMES = ["[/x]", "[link=http://x]y[/link]", "tiny[q4].gguf", "[bold]", "[1, 2]", ":smile:", "Müller.gguf", "東京 🎉"]


def console(**options: object) -> tuple[PlainConsole, io.StringIO]:
    output = io.StringIO()
    return PlainConsole(file=output, width=100, **options), output


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("terminal", [False, True])
def test_everywhere_in_what_is_printed(name: str, terminal: bool) -> None:
    shown, output = console(force_terminal=terminal, no_color=True)
    table = Table(title=f"title {name}", caption=f"caption {name}")
    table.add_column(f"column {name}")
    table.add_row(f"cell {name}")
    shown.print(f"line {name}", table, soft_wrap=True)
    for part in ("line", "title", "caption", "column", "cell"):
        assert f"{part} {name}" in output.getvalue()


def test_control_characters_never_reach_the_terminal() -> None:
    shown, output = console()
    table = Table(title="\x1b[31mred\x1b[0m")
    table.add_column("\r\x07")
    table.add_row("\x1b]8;;http://x\x1b\\click\n\x9b1m")
    shown.print("\x1b[2J", "two\nlines", table)
    text = output.getvalue()
    assert not any(c < " " and c != "\n" or "\x7f" <= c < "\xa0" for c in text)
    for escaped in (r"\x1b[31mred\x1b[0m", r"\r\x07", r"\x1b]8;;http://x\x1b\click", r"\x9b1m", r"\x1b[2J"):
        assert escaped in text
    assert "two\nlines" in text


@pytest.mark.parametrize("name", ["[/x]", "[link=http://x]", "\x1b[31m", "a\nb"])
def test_progress_and_notes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    with terminal.phase(f"importing {name}"):
        terminal.progress(f"reading {name}", 0.5)
    terminal.warn(name)
    shown = name.replace("\x1b", r"\x1b")
    assert capsys.readouterr().err == f"importing {shown} …\nwarning: {shown}\n"


@pytest.mark.parametrize("name", ["[/x]", "[link=http://x]", "\x1b[31m"])
def test_progress_on_a_terminal(name: str) -> None:
    terminal = Terminal()
    output = io.StringIO()
    terminal.console = PlainConsole(file=output, width=100, force_terminal=True, no_color=True, legacy_windows=False)
    with terminal.phase(f"importing {name}"):
        terminal.progress(f"reading {name}", 0.5)
    assert f"reading {name} …".replace("\x1b", r"\x1b") in output.getvalue()
    assert "\x1b[31m" not in output.getvalue()


def test_there_is_no_other_console() -> None:
    """Whoever wants one takes this one."""
    host = Path(tailrace.command.__file__).parents[1]
    users = {file.name for file in host.rglob("*.py") if "rich.console" in file.read_text()}
    assert users == {"plain_console.py"}
