"""What reaches the user's terminal, whatever the terminal can show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.command.terminal import Terminal
from verification.unit.host.text.vocabularies import BPE, CONTROL, with_tokens, write_with
from verification.unit.host.tiny_models import write_model


def test_warnings_are_shown_as_they_are_and_always(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(quiet=True).warn("[/x] " + "long " * 50 + ":smile:")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "warning: [/x] " + "long " * 50 + ":smile:\n"


def tailrace(*arguments: str, encoding: str = "utf-8") -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run([sys.executable, "-m", "tailrace", *arguments], capture_output=True, env=environment, check=False)


def test_a_terminal_that_can_not_show_a_character_shows_another(tmp_path: Path) -> None:
    path = write_with(tmp_path / "m.gguf", with_tokens(BPE, ("<｜end▁of▁sentence｜>", CONTROL)))
    done = tailrace("inspect", str(path), "--config", "tiny", encoding="latin-1")
    assert b"<?end?of?sentence?>" in done.stdout
    assert done.stderr == b""


def test_a_prompt_that_is_not_utf8(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf")
    done = tailrace("run", str(path), "--device", "golden", "--config", "tiny", "-n", "1", "-p", os.fsdecode(b"caf\xe9"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        b"tailrace: the prompt is not UTF-8: after 3 characters there is the byte 0xe9. Give it as UTF-8."
    )


def test_what_a_file_gets_wrong_is_said_before_the_answer(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", metadata={"tokenizer.ggml.eos_token_id": 9999})
    done = tailrace("run", str(path), "--device", "golden", "--config", "tiny", "-n", "1", "-p", "x", "--quiet")
    assert done.returncode == 0
    assert done.stderr.decode() == (
        "warning: the tokenizer: tokenizer.ggml.eos_token_id is 9,999, but there are 288 tokens: it is left out\n"
    )
