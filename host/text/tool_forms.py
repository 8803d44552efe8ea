"""The forms in which models write calls of tools, and grammars for them.

A model writes calls in the form that it was trained with, and its chat template shows which one that is.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from .grammar import Grammar, json_rule
from .tool_calls import Tool, ToolCall, call_of, json_of
from .tool_parsers import Bare, Marked, Parser, Trailing
from .tool_tags import TAGGED, function_of, function_rule


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
    arguments : str
        What arguments are called in a call that is an object.
    """

    name: str
    marks: tuple[str, ...] = ()
    several = True
    goes_on = False
    text = "/(?s:.*)/"
    arguments = "arguments"

    @abstractmethod
    def parser(self, tools: Sequence[Tool]) -> Parser:
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

    def call(self, tool: Tool, marks: Mapping[str, str]) -> str:
        """The right side of a rule for the call of a tool, without marks around it.

        Raises
        ------
        ConfigError
            If the form has no way to hold arguments to the tool's schema.
        """
        before = f'{{"name": {json.dumps(tool.name)}, "{self.arguments}": '
        return f'{json.dumps(before)} {json_rule(tool.parameters)} "}}"'

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

        Raises
        ------
        ConfigError
            If the form has no way to hold arguments to a tool's schema.
        MissingPackage
            Without llguidance.
        """
        marks = {mark: f"<[{control[mark]}]>" if mark in control else json.dumps(mark) for mark in self.marks}
        lines = ["start: calls"]
        if not required:
            lines = self._in_text(marks, control)
        calls = [f"call_{n}" for n in range(len(tools))]
        lines.append(self.rules(calls, marks, several and self.several, '"\\n"' if required else ""))
        lines += [f"{call}: {self.call(tool, marks)}" for call, tool in zip(calls, tools, strict=True)]
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

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Marked(*self.marks, lambda text: call_of(json_of(text)))

    def rules(self, calls: Sequence[str], marks: Mapping[str, str], several: bool, between: str) -> str:
        """The rule ``calls`` of a grammar, for one call or more."""
        one = f'marked: {marks["<tool_call>"]} "\\n" ({" | ".join(calls)}) "\\n" {marks["</tool_call>"]}'
        return f"calls: marked{f' ({between} marked)*' if several else ''}\n{one}"


class Tags(Hermes):
    """``<tool_call><function=...><parameter=...>...</parameter></function></tool_call>``: Qwen3-Coder, Qwen 3.5."""

    name = "tags"

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Marked(*self.marks, lambda text: function_of(text, tools))

    def call(self, tool: Tool, marks: Mapping[str, str]) -> str:
        """The right side of a rule for the call of a tool, without marks around it."""
        return function_rule(tool)

    def rules(self, calls: Sequence[str], marks: Mapping[str, str], several: bool, between: str) -> str:
        """The rule ``calls`` of a grammar, for one call or more, and that of a text in tags."""
        return f"{super().rules(calls, marks, several, between)}\n{TAGGED}"


class Llama(Form):
    """``{"name": ..., "parameters": ...}`` and nothing else: Llama 3.1 and later."""

    name = "llama"
    several = False
    text = r"/(?s:[ \t\r\n]*([^{ \t\r\n].*)?)/"
    arguments = "parameters"

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Bare(frozenset(tool.name for tool in tools))

    def rules(self, calls: Sequence[str], marks: Mapping[str, str], several: bool, between: str) -> str:
        """The rule ``calls`` of a grammar, for one call or more."""
        return f"calls: {' | '.join(calls)}"


class Mistral(Form):
    """``[TOOL_CALLS][{"name": ..., "arguments": ...}, ...]``: Mistral 7B v0.3, Nemo, Mixtral v0.3."""

    name = "mistral"
    marks = ("[TOOL_CALLS]",)

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Trailing(self.marks[0], self._read)

    def rules(self, calls: Sequence[str], marks: Mapping[str, str], several: bool, between: str) -> str:
        """The rule ``calls`` of a grammar, for one call or more."""
        more = ' (", " one)*' if several else ""
        return f'calls: {marks["[TOOL_CALLS]"]} "[" one{more} "]"\none: {" | ".join(calls)}'

    @staticmethod
    def _read(text: str) -> list[ToolCall]:
        value = json_of(text)
        found = [call_of(one) for one in value] if isinstance(value, list) else []
        calls = [call for call in found if call is not None]
        return calls if len(calls) == len(found) else []


class MistralArguments(Form):
    """``[TOOL_CALLS]name[ARGS]{...}``, once for each call: Mistral Small 3.2, Ministral 3, Devstral."""

    name = "mistral arguments"
    marks = ("[TOOL_CALLS]", "[ARGS]")

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Trailing(self.marks[0], self._read)

    def rules(self, calls: Sequence[str], marks: Mapping[str, str], several: bool, between: str) -> str:
        """The rule ``calls`` of a grammar, for one call or more."""
        return f"calls: one{'+' if several else ''}\none: {marks['[TOOL_CALLS]']} ({' | '.join(calls)})"

    def call(self, tool: Tool, marks: Mapping[str, str]) -> str:
        """The right side of a rule for the call of a tool, without the mark before it."""
        return f"{json.dumps(tool.name)} {marks['[ARGS]']} {json_rule(tool.parameters)}"

    def _read(self, text: str) -> list[ToolCall]:
        opening, middle = self.marks
        found = []
        for one in text.split(opening):
            name, mark, arguments = one.partition(middle)
            found.append(call_of({"name": name.strip(), "arguments": json_of(arguments)}) if mark and name.strip() else None)
        calls = [call for call in found if call is not None]
        return calls if len(calls) == len(found) else []


def form_of(template: str | None) -> Form | None:
    """The form that a chat template shows; None if it is none of those that are known, or more than one."""
    text = template or ""
    found: list[Form] = []
    if "<tool_call>" in text:
        # Others use the same mark around keys and values (GLM), or around tags of their own (MiniMax).
        if "<function=" in text and "<parameter=" in text:
            found.append(Tags())
        elif not re.search(r"<function=|<arg_key>|<parameter=|<invoke", text):
            found.append(Hermes())
    if "[TOOL_CALLS]" in text and "[CALL_ID]" not in text:
        found.append(MistralArguments() if "[ARGS]" in text else Mistral())
    if re.search(r"""\{\\?"name\\?": function name, \\?"parameters\\?":""", text):
        found.append(Llama())
    return found[0] if len(found) == 1 else None
