"""Parsers of calls in what a model says, bit by bit: text goes on at once, what may be a call is held back."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable

from .tool_calls import ToolCall, call_of


class Parser(ABC):
    """Takes what a model says apart: text, and calls. Text that may yet become a call is held back."""

    def __init__(self) -> None:
        self._held = ""

    @abstractmethod
    def put(self, text: str) -> tuple[str, list[ToolCall]]:
        """Take the next bit; returns text that is certainly no call, and calls that are complete."""

    @abstractmethod
    def end(self) -> tuple[str, list[ToolCall]]:
        """The same for what was held back: what is no call is text."""


class Marked(Parser):
    """Calls between two marks, in the middle of text; blanks around them are no text.

    Parameters
    ----------
    opening, closing : str
    read : callable
        The call that the text between them is, if it is one.
    """

    def __init__(self, opening: str, closing: str, read: Callable[[str], ToolCall | None]) -> None:
        super().__init__()
        self._opening, self._closing, self._read, self._follows_call = opening, closing, read, False

    def put(self, text: str) -> tuple[str, list[ToolCall]]:
        """Take the next bit."""
        self._held += text
        said, calls = "", list[ToolCall]()
        while True:
            start = self._held.find(self._opening)
            stop = self._held.find(self._closing, start) if start >= 0 else -1
            if stop < 0:
                # The beginning of a call is held back, and so are blanks, which may be before one.
                certain = start if start >= 0 else len(self._held) - _overlap(self._held, self._opening)
                return said + self._say(len(self._held[:certain].rstrip())), calls
            call = self._read(self._held[start + len(self._opening) : stop])
            stop += len(self._closing)
            if call is None:
                said += self._say(stop)
                continue
            rest = self._held[stop:]
            said += self._say(len(self._held[:start].rstrip()))
            calls.append(call)
            self._held, self._follows_call = rest, True

    def end(self) -> tuple[str, list[ToolCall]]:
        """What was held back."""
        before, mark, inside = self._held.partition(self._opening)
        # The answer may have ended within a call that has all that it needs.
        if mark and (call := self._read(inside)) is not None:
            return self._say(len(before.rstrip())), [call]
        return self._say(len(self._held)), []

    def _say(self, length: int) -> str:
        """So many of the characters that are held back."""
        text, self._held = self._held[:length], self._held[length:]
        if self._follows_call:
            text = text.lstrip()
            self._follows_call = not text
        return text


class Bare(Parser):
    """An answer that is a call, or several with semicolons between; held back from its beginning if it looks like that.

    Parameters
    ----------
    names : frozenset of str
        Tools that there are: other objects are text.
    """

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__()
        self._names, self._is_text = names, False

    def put(self, text: str) -> tuple[str, list[ToolCall]]:
        """Take the next bit."""
        self._held += text
        if not self._is_text and self._held.lstrip()[:1] in ("", "{"):
            return "", []
        self._is_text, said, self._held = True, self._held, ""
        return said, []

    def end(self) -> tuple[str, list[ToolCall]]:
        """What was held back."""
        rest, self._held = self._held, ""
        calls, place = list[ToolCall](), 0
        while match := re.compile(r"[\s;]*").match(rest, place):
            place = match.end()
            if place == len(rest):
                return "", calls
            try:
                value, place = json.JSONDecoder().raw_decode(rest, place)
            except (ValueError, RecursionError):
                break
            if (call := call_of(value, self._names)) is None:
                break
            calls.append(call)
        return rest, []


class Trailing(Parser):
    """Calls behind a mark, up to the end of the answer.

    Parameters
    ----------
    mark : str
    read : callable
        The calls that the text behind it is; none if it is something else.
    """

    def __init__(self, mark: str, read: Callable[[str], list[ToolCall]]) -> None:
        super().__init__()
        self._mark, self._read = mark, read

    def put(self, text: str) -> tuple[str, list[ToolCall]]:
        """Take the next bit."""
        self._held += text
        place = self._held.find(self._mark)
        certain = len(self._held) - _overlap(self._held, self._mark) if place < 0 else place
        certain = len(self._held[:certain].rstrip())
        said, self._held = self._held[:certain], self._held[certain:]
        return said, []

    def end(self) -> tuple[str, list[ToolCall]]:
        """What was held back."""
        rest, self._held = self._held, ""
        before, mark, text = rest.partition(self._mark)
        calls = self._read(text) if mark else []
        return (before.rstrip(), calls) if calls else (rest, [])


def _overlap(text: str, mark: str) -> int:
    """Characters at the end of a text that a mark begins with."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:n])), 0)
