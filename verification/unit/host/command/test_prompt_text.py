"""Where a prompt comes from."""

import io
import sys
from pathlib import Path

import click
import pytest

from tailrace.command.prompt_text import read_prompt


def give(monkeypatch: pytest.MonkeyPatch, data: bytes, terminal: bool = False) -> None:
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="latin-1")
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", stream)


def test_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, b"not this")
    assert read_prompt("Hi\n", None) == "Hi\n"


@pytest.mark.parametrize(
    ("data", "text"),
    [("Grüße\nan alle\n", "Grüße\nan alle"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("", ""), ("\ufeffa\ufeff", "a\ufeff")],
)
def test_from_a_file_and_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, text: str) -> None:
    """As UTF-8, whatever the machine's locale says."""
    file = tmp_path / "prompt"
    file.write_bytes(data.encode())
    assert read_prompt(None, str(file)) == text
    give(monkeypatch, data.encode())
    assert read_prompt(None, "-") == text
    give(monkeypatch, data.encode())
    assert read_prompt(None, None) == text


def test_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(prompt: str | None, file: str | None) -> str:
        with pytest.raises(click.UsageError) as error:
            read_prompt(prompt, file)
        return error.value.message

    missing = "there is no prompt: give it with -p, in a file with -f, or on standard input; or start tailrace chat"
    give(monkeypatch, b"", terminal=True)
    assert refused(None, None) == missing
    monkeypatch.setattr(sys, "stdin", None)
    assert refused(None, None) == missing
    assert refused("a", "b") == "-p and -f both give a prompt: leave one out"
    assert refused(None, f"{tmp_path}/none") == f"the prompt can't be read from {tmp_path}/none: No such file or directory"
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    assert refused(None, f"{tmp_path}/latin") == (
        f"the prompt in {tmp_path}/latin is not UTF-8 (byte 3): convert it, for example with iconv"
    )
    assert refused(None, "/dev/zero") == "the prompt in /dev/zero has more than 64 MiB: give a shorter one"
