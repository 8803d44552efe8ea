"""Calls of tools in what a model says: the forms in which models write them, and their parsers.

A model writes calls in the form that it was trained with, and its chat template shows which one that is.
"""

import json
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .grammar import Grammar, json_rule


@dataclass(frozen=True)
class Tool:
    """A tool that may be called.

    Attributes
    ----------
    name : str
    parameters : mapping
        JSON schema of its arguments.
    strict : bool
        Whether arguments must fit the schema, also where the model chooses whether it calls.
    """

    name: str
    parameters: Mapping[str, Any]
    strict: bool = False


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool.

    Attributes
    ----------
    name : str
    arguments : str
        JSON, as the model wrote it.
    identity : str
    """

    name: str
    arguments: str
    identity: str


class Parser(ABC):
    """Takes what a model says apart: text, and calls. Text that may yet become a call is held back.

    Parameters
    ----------
    names : sequence of str
        Tools that there are.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._held = frozenset(names), ""

    @abstractmethod
    def put(self, text: str) -> tuple[str, list[ToolCall]]:
        """Take the next bit; returns text that is certainly no call, and calls that are complete."""

    @abstractmethod
    def end(self) -> tuple[str, list[ToolCall]]:
        """The same for what was held back: what is no call is text."""


class Form(ABC):
    """How a family of models writes calls.

    Attributes
    ----------
    name : str
    marks : tuple of str
        What calls begin and end with; tokens of these names are part of what the model says.
    several : bool
        Whether an answer may have more than one.
    goes_on : bool
        Whether text may follow calls.
    text : str
        A regular expression of Lark for texts without calls, but for marks.
    """

    name: str
    marks: tuple[str, ...] = ()
    several = True
    goes_on = False
    text = "/(?s:.*)/"

    @abstractmethod
    def parser(self, names: Sequence[str]) -> Parser:
        """A parser for one answer."""

    @abstractmethod
    def rules(self, calls: Sequence[str], marks: Mapping[str, str], several: bool, between: str) -> str:
        """The rule ``calls`` of a grammar, for one call or more.

        Parameters
        ----------
        calls : sequence of str
            Names of rules, one for each tool's object.
        marks : mapping of str to str
            How the marks are written in the grammar.
        several : bool
            Whether more than one call is allowed.
        between : str
            What stands between two calls that begin with a mark each.
        """

    def object(self, name: str) -> tuple[str, str]:
        """What stands before the arguments of a call, and after them."""
        return f'{{"name": {json.dumps(name)}, "arguments": ', "}"

    def grammar(self, tools: Sequence[Tool], control: Mapping[str, int], several: bool, required: bool = True) -> Grammar:
        """A grammar for calls.

        Parameters
        ----------
        tools : sequence of Tool
            Those that may be called.
        control : mapping of str to int
            Tokens of the marks that have no text.
        several : bool
            Whether more than one call is allowed.
        required : bool
            Whether there must be a call, and nothing else; or else calls, in a text, as the model chooses.
        """
        marks = {mark: f"<[{control[mark]}]>" if mark in control else json.dumps(mark) for mark in self.marks}
        lines = ["start: calls"]
        if not required:
            lines = self._in_text(marks, control)
        calls = [f"call_{n}" for n in range(len(tools))]
        lines.append(self.rules(calls, marks, several and self.several, '"\\n"' if required else ""))
        for call, tool in zip(calls, tools):
            before, after = self.object(tool.name)
            lines.append(f"{call}: {json.dumps(before)} {json_rule(tool.parameters)} {json.dumps(after)}")
        return Grammar.lark("\n".join(lines))

    def _in_text(self, marks: dict[str, str], control: Mapping[str, int]) -> list[str]:
        """The rules for text with calls in it. What a call begins with is ``open`` then, with the text before it."""
        lines, text = [f"start: {'calls? TEXT' if self.goes_on else 'calls | TEXT'}"], self.text
        for mark in self.marks[:1]:
            word = re.escape(mark)
            if mark in control:
                lines.append(f"open: TEXT {marks[mark]}")
            else:
                # A lexer that takes as much as it can would take the mark for text.
                lines.append(f"open[lazy]: /(?s:.*{word})/")
                text = f"{text} & ~/(?s:.*{word}.*)/"
            marks[mark] = "open"
        return [*lines, f"TEXT: {text}"]


class Hermes(Form):
    """``<tool_call>{"name": ..., "arguments": ...}</tool_call>``: Hermes, Qwen 2.5, Qwen 3."""

    name = "hermes"
    goes_on = True
    marks = ("<tool_call>", "</tool_call>")

    def parser(self, names: Sequence[str]) -> Parser:
        """A parser for one answer."""
        return _Marked(names, *self.marks)

    def rules(self, calls: Sequence[str], marks: Mapping[str, str], several: bool, between: str) -> str:
        """The rule ``calls`` of a grammar, for one call or more."""
        one = f'marked: {marks["<tool_call>"]} "\\n" ({" | ".join(calls)}) "\\n" {marks["</tool_call>"]}'
        return f"calls: marked{f' ({between} marked)*' if several else ''}\n{one}"


class Llama(Form):
    """``{"name": ..., "parameters": ...}`` and nothing else: Llama 3.1 and later."""

    name = "llama"
    several = False
    text = r"/(?s:[ \t\r\n]*([^{ \t\r\n].*)?)/"

    def parser(self, names: Sequence[str]) -> Parser:
        """A parser for one answer."""
        return _Bare(names)

    def rules(self, calls: Sequence[str], marks: Mapping[str, str], several: bool, between: str) -> str:
        """The rule ``calls`` of a grammar, for one call or more."""
        return f"calls: {' | '.join(calls)}"

    def object(self, name: str) -> tuple[str, str]:
        """What stands before the arguments of a call, and after them."""
        return f'{{"name": {json.dumps(name)}, "parameters": ', "}"


class Mistral(Form):
    """``[TOOL_CALLS][{"name": ..., "arguments": ...}, ...]``: Mistral 7B v0.3, Nemo, Mixtral v0.3."""

    name = "mistral"
    marks = ("[TOOL_CALLS]",)

    def parser(self, names: Sequence[str]) -> Parser:
        """A parser for one answer."""
        return _List(names, self.marks[0])

    def rules(self, calls: Sequence[str], marks: Mapping[str, str], several: bool, between: str) -> str:
        """The rule ``calls`` of a grammar, for one call or more."""
        more = ' (", " one)*' if several else ""
        return f'calls: {marks["[TOOL_CALLS]"]} "[" one{more} "]"\none: {" | ".join(calls)}'


def form_of(template: str | None) -> Form | None:
    """The form that a chat template shows; None if it is none of those that are known, or more than one."""
    text = template or ""
    found: list[Form] = []
    # Others use the same mark around XML (Qwen3-Coder), or around keys and values (GLM).
    if "<tool_call>" in text and not re.search(r"<function=|<arg_key>|<parameter=", text):
        found.append(Hermes())
    if "[TOOL_CALLS]" in text and "[ARGS]" not in text and "[CALL_ID]" not in text:
        found.append(Mistral())
    if re.search(r"""\{\\?"name\\?": function name, \\?"parameters\\?":""", text):
        found.append(Llama())
    return found[0] if len(found) == 1 else None


def _call(value: Any, names: frozenset[str], any_name: bool) -> ToolCall | None:
    """The call that an object is, if it is one."""
    if not isinstance(value, dict) or not isinstance(name := value.get("name"), str) or not (any_name or name in names):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    # Nine letters and digits are what Mistral's template takes for an identity, and any other does, too.
    return ToolCall(name, arguments, secrets.token_hex(5)[:9]) if isinstance(arguments, str) else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class _Marked(Parser):
    """Calls between two marks, in the middle of text; blanks around them are no text."""

    def __init__(self, names: Sequence[str], opening: str, closing: str) -> None:
        super().__init__(names)
        self._opening, self._closing, self._follows_call = opening, closing, False

    def put(self, text: str) -> tuple[str, list[ToolCall]]:
        self._held += text
        said, calls = "", list[ToolCall]()
        while True:
            start = self._held.find(self._opening)
            stop = self._held.find(self._closing, start) if start >= 0 else -1
            if stop < 0:
                # The beginning of a call is held back, and so are blanks, which may be before one.
                certain = start if start >= 0 else len(self._held) - _overlap(self._held, self._opening)
                return said + self._say(len(self._held[:certain].rstrip())), calls
            call = _call(_json(self._held[start + len(self._opening) : stop]), self._names, True)
            stop += len(self._closing)
            if call is None:
                said += self._say(stop)
                continue
            rest = self._held[stop:]
            said += self._say(len(self._held[:start].rstrip()))
            calls.append(call)
            self._held, self._follows_call = rest, True

    def end(self) -> tuple[str, list[ToolCall]]:
        before, mark, inside = self._held.partition(self._opening)
        # The answer may have ended with the JSON of a call.
        if mark and (call := _call(_json(inside), self._names, True)) is not None:
            return self._say(len(before.rstrip())), [call]
        return self._say(len(self._held)), []

    def _say(self, length: int) -> str:
        """So many of the characters that are held back."""
        text, self._held = self._held[:length], self._held[length:]
        if self._follows_call:
            text = text.lstrip()
            self._follows_call = not text
        return text


class _Bare(Parser):
    """An answer that is a call, or several with semicolons between; held back from its beginning if it looks like that."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._is_text = False

    def put(self, text: str) -> tuple[str, list[ToolCall]]:
        self._held += text
        if not self._is_text and self._held.lstrip()[:1] in ("", "{"):
            return "", []
        self._is_text, said, self._held = True, self._held, ""
        return said, []

    def end(self) -> tuple[str, list[ToolCall]]:
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
            if (call := _call(value, self._names, False)) is None:
                break
            calls.append(call)
        return rest, []


class _List(Parser):
    """A list of calls behind a mark, up to the end of the answer."""

    def __init__(self, names: Sequence[str], mark: str) -> None:
        super().__init__(names)
        self._mark = mark

    def put(self, text: str) -> tuple[str, list[ToolCall]]:
        self._held += text
        place = self._held.find(self._mark)
        certain = len(self._held) - _overlap(self._held, self._mark) if place < 0 else place
        certain = len(self._held[:certain].rstrip())
        said, self._held = self._held[:certain], self._held[certain:]
        return said, []

    def end(self) -> tuple[str, list[ToolCall]]:
        rest, self._held = self._held, ""
        before, mark, text = rest.partition(self._mark)
        value = _json(text) if mark else None
        found = [_call(one, self._names, True) for one in value] if isinstance(value, list) else []
        calls = [call for call in found if call is not None]
        return (before.rstrip(), calls) if calls and len(calls) == len(found) else (rest, [])


def _overlap(text: str, mark: str) -> int:
    """Characters at the end of a text that a mark begins with."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:n])), 0)
