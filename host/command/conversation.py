"""A conversation: who said what, and the file that it is kept in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailrace.spec.errors import TailraceError

from ..generation.whole_file import written_whole

_ROLES = ("system", "user", "assistant")
#: Largest file that is read.
_MOST_BYTES = 1 << 26


@dataclass
class Conversation:
    """What was said so far.

    Attributes
    ----------
    system : str
        What the model is told before anything is said; empty: nothing.
    turns : list of (str, str)
        What the user said, and what the model answered.
    """

    system: str = ""
    turns: list[tuple[str, str]] = field(default_factory=list)

    def messages(self, said: str | None = None) -> list[dict[str, str]]:
        """All messages, in the form of chat templates, and what the user says next."""
        found = [{"role": "system", "content": self.system}] if self.system else []
        for user, assistant in self.turns:
            found += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        return found if said is None else [*found, {"role": "user", "content": said}]

    def save(self, path: Path, model: str) -> None:
        """Write it as JSON, for people and programs to read; the file is complete or as it was.

        Parameters
        ----------
        path : Path
        model : str
            Name of the model, which is noted.

        Raises
        ------
        TailraceError
            If it can't be written.
        """
        text = json.dumps({"model": model, "messages": self.messages()}, indent=1, ensure_ascii=False) + "\n"
        with written_whole(path) as file:
            file.write(text.encode())

    @classmethod
    def load(cls, path: Path) -> "Conversation":
        """Read one that was saved.

        Raises
        ------
        TailraceError
            If the file can't be read, or is no conversation.
        """
        try:
            if path.exists() and not path.is_file():
                raise ValueError("it is not a file")
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES} bytes")
            return cls._of(json.loads(path.read_text(encoding="utf-8"))["messages"])
        except OSError as error:
            raise TailraceError(f"{path} can't be read: {error.strerror}") from None
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise TailraceError(f"{path} is no conversation that /save has written: {error}") from None

    @classmethod
    def _of(cls, messages: Sequence[Any]) -> "Conversation":
        found = cls()
        said: str | None = None
        for number, message in enumerate(messages):
            role, content = message["role"], message["content"]
            if role not in _ROLES or not isinstance(content, str):
                raise ValueError(f"message {number} is none of a system, a user or an assistant")
            content.encode()
            if (role == "assistant") != (said is not None) or (role == "system" and number):
                raise ValueError(f"message {number} is out of turn")
            if role == "system":
                found.system = content
            elif role == "user":
                said = content
            else:
                found.turns.append((str(said), content))
                said = None
        if said is not None:
            raise ValueError("its last message has no answer")
        return found
