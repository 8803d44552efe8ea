"""Conversations, and the files that they are kept in."""

import json
import re
from pathlib import Path

import pytest

from tailrace.command.conversation import Conversation
from tailrace.spec.errors import TailraceError

SAID = Conversation("Be terse.", [("Grüße", "Hi"), ("1\n2", "3")])


def test_messages() -> None:
    assert SAID.messages("?") == [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": "Grüße"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "1\n2"},
        {"role": "assistant", "content": "3"},
        {"role": "user", "content": "?"},
    ]
    assert Conversation().messages() == []


@pytest.mark.parametrize("said", [SAID, Conversation(), Conversation("x"), Conversation("", [("a", "b")])])
def test_saved_and_loaded(said: Conversation, tmp_path: Path) -> None:
    path = tmp_path / "ü.json"
    said.save(path, "m.gguf")
    assert Conversation.load(path) == said
    assert json.loads(path.read_text())["model"] == "m.gguf"
    assert [f.name for f in tmp_path.iterdir()] == ["ü.json"]


def test_what_can_not_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.json"
    SAID.save(path, "m")
    before = path.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tailrace.generation.whole_file.os.fsync", full)
    with pytest.raises(TailraceError, match=f"^{re.escape(str(path))} can't be written: No space left on device$"):
        Conversation().save(path, "m")
    assert path.read_text() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "list indices must be integers or slices, not str"),
        ("{}", "'messages'"),
        ('{"messages": 3}', "'int' object is not iterable"),
        ('{"messages": [{"role": "tool", "content": ""}]}', "message 0 is none of a system, a user or an assistant"),
        ('{"messages": [{"role": "user", "content": 1}]}', "message 0 is none of a system, a user or an assistant"),
        ('{"messages": [{"role": "assistant", "content": ""}]}', "message 0 is out of turn"),
        ('{"messages": [{"role": "user", "content": ""}, {"role": "system", "content": ""}]}', "message 1 is out of turn"),
        ('{"messages": [{"role": "user", "content": ""}]}', "its last message has no answer"),
        (
            r'{"messages": [{"role": "user", "content": "\ud83d"}]}',
            "can't encode character '\\ud83d' in position 0: surrogates not allowed",
        ),
        ("[" * 100_000, None),
    ],
)
def test_what_is_none_is_refused(text: str, reason: str | None, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(TailraceError) as error:
        Conversation.load(path)
    assert str(error.value).startswith(f"{path} is no conversation that /save has written: ")
    assert reason is None or str(error.value).endswith(reason)
    with pytest.raises(TailraceError) as error:
        Conversation.load(tmp_path / "none.json")
    assert str(error.value) == f"{tmp_path}/none.json can't be read: No such file or directory"
