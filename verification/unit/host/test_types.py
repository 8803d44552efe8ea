"""What type checkers see of the package from outside, where it is installed as `pip install -e` does it."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from verification.packages import ROOT

pytest.importorskip("mypy")

SCRIPT = """
from collections.abc import Iterator
from typing import Literal, assert_type

import numpy as np
from numpy.typing import NDArray

import tailrace
from tailrace import Completion, LanguageModel, Piece, Session, Stream


def shout(tokens: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    logits[int(tokens[-1])] += 1
    return logits


def talk(lm: LanguageModel) -> Iterator[str]:
    assert_type(lm.generate("a"), Completion)
    assert_type(lm.generate([1, 2]), Completion)
    assert_type(lm.generate(np.array([1, 2])), Completion)
    assert_type(lm.generate(["a", "b"]), list[Completion])
    assert_type(lm.generate([[1], [2, 3]], seed=1), list[Completion])
    assert_type(lm.generate("a", stream=True, logits_processor=shout), Stream)
    assert_type(lm.chat([{"role": "user", "content": "Hi"}], temperature=0.7, stop=["."]), Completion)
    assert_type(lm.generate("a").finish_reason, Literal["stop", "length", "context", "closed"])
    assert_type(lm.decoder.step(np.int64(5)), NDArray[np.float32])
    assert_type(lm.decoder.run(5), list[int])
    assert_type(lm.decoder.run([5, None]), list[list[int]])
    for piece in lm.chat("Hi", stream=True):
        assert_type(piece, Piece)
        yield piece.text
    session = lm.session("a")
    assert_type(session.fork(), Session)
    assert_type(session.generate("b", stream=True).result.text, str)


with tailrace.load("model.gguf", device="golden", progress=lambda what, done: print(what, done)) as lm:
    assert_type(lm, LanguageModel)
    assert_type(tailrace.__version__, str)
    try:
        print(*talk(lm))
    except tailrace.TailraceError as error:
        print(error)
"""

MISTAKES = {
    'lm.generate("a", temperatur=1.0)': "call-overload",
    'lm.generate("a", temperature="hot")': "call-overload",
    'lm.generate("a").txt': "attr-defined",
    'lm.generate("a", stream=True).text': "attr-defined",
    'tailrace.load("m.gguf", context="4k")': "arg-type",
    "tailrace.laod": "attr-defined",
}


@pytest.mark.slow
def test_a_users_script(tmp_path: Path) -> None:
    """Strict checks pass, and mistakes are found: nothing is Any."""
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "installed.pth").write_text(f"{ROOT / 'src'}\n{sysconfig.get_path('purelib')}\n")
    script = tmp_path / "user.py"
    mistakes = "".join(f"\n{line}  # {code}" for line, code in MISTAKES.items())
    script.write_text(f"{SCRIPT}{mistakes}\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")}
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--no-color-output", script.name],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    lines = script.read_text().splitlines()
    found = {}
    for message in checked.stdout.splitlines():
        if ": error: " in message:
            assert message.startswith("user.py:"), message
            found[lines[int(message.split(":")[1]) - 1].partition("  #")[0]] = message.rpartition("[")[2].removesuffix("]")
    assert found == MISTAKES, checked.stdout + checked.stderr
