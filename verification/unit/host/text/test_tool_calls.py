"""Calls of tools in what a model says: known from the chat template, parsed whatever the bits are, and made by grammars."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.spec.errors import ConfigError
from tailrace.text.tokenizer import Tokenizer
from tailrace.text.tool_calls import Tool, ToolCall
from tailrace.text.tool_forms import Form, Hermes, Llama, Mistral, MistralArguments, Tags, form_of
from verification.unit.host.text.vocabularies import BPE, CONTROL, USER_DEFINED, model_with, with_tokens

PARAMETERS = {
    "type": "object",
    "properties": {
        "a": {"type": "integer"},
        "b": {"type": "string"},
        "c": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "d": {"$ref": "#/$defs/list"},
        "e": {"enum": ["x", "y"]},
        "f": {},
    },
    "$defs": {"list": {"type": "array", "items": {"type": "number"}}},
}
NAMED = [Tool("add", PARAMETERS), Tool("get", {"type": "object"})]


def parse(form: Form, bits: list[str]) -> tuple[str, list[tuple[str, Any]]]:
    parser, said, calls = form.parser(NAMED), "", list[ToolCall]()
    for bit in bits:
        text, found = parser.put(bit)
        said, calls = said + text, calls + found
    text, found = parser.end()
    assert len({call.identity for call in calls + found}) == len(calls + found)
    return said + text, [(call.name, json.loads(call.arguments)) for call in calls + found]


def tags(name: str, **parameters: str) -> str:
    """A call in tags."""
    inner = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters.items())
    return f"<tool_call>\n<function={name}>\n{inner}</function>\n</tool_call>"


ADD, GET = '{"name": "add", "arguments": {"a": 1, "b": "ü"}}', '{"name": "get", "arguments": {}}'
ADDED, GOT = ("add", {"a": 1, "b": "ü"}), ("get", {})
CASES: list[tuple[Form, str, str, list[Any]]] = [
    (Hermes(), "Plain text, with <tool in it. ", "Plain text, with <tool in it. ", []),
    (Hermes(), f"<tool_call>\n{ADD}\n</tool_call>", "", [ADDED]),
    (Hermes(), f"Let me see.\n\n<tool_call>\n{ADD}\n</tool_call>\n<tool_call>{GET}</tool_call>\n", "Let me see.", [ADDED, GOT]),
    (Hermes(), f"<tool_call>{ADD}</tool_call>\n And more. \n<tool_call>{GET}</tool_call>", "And more.", [ADDED, GOT]),
    (Hermes(), f"<tool_call>{ADD}</tool_call> one two", "one two", [ADDED]),
    (Hermes(), f"<tool_call>\n{ADD}", "", [ADDED]),
    (Hermes(), "a <tool_call>\n{broken}</tool_call> b", "a <tool_call>\n{broken}</tool_call> b", []),
    (Hermes(), 'a <tool_call>{"name": "add", "argum', 'a <tool_call>{"name": "add", "argum', []),
    (
        Hermes(),
        '<tool_call>{"name": 7, "arguments": {}}</tool_call>',
        '<tool_call>{"name": 7, "arguments": {}}</tool_call>',
        [],
    ),
    (Hermes(), '<tool_call>{"name": "x", "arguments": "{}"}</tool_call>', "", [("x", {})]),
    (Llama(), "Plain {text}", "Plain {text}", []),
    (Llama(), ADD.replace("arguments", "parameters"), "", [ADDED]),
    (Llama(), f"\n{ADD} ; {GET}\n", "", [ADDED, GOT]),
    (Llama(), '{"name": "unknown", "parameters": {}}', '{"name": "unknown", "parameters": {}}', []),
    (Llama(), f"{ADD} is the call", f"{ADD} is the call", []),
    (Llama(), '{"an": "object"}', '{"an": "object"}', []),
    (Mistral(), "Plain [TOOL text", "Plain [TOOL text", []),
    (Mistral(), f"[TOOL_CALLS][{ADD}, {GET}]", "", [ADDED, GOT]),
    (Mistral(), f"Well. [TOOL_CALLS] [{ADD}]\n", "Well.", [ADDED]),
    (Mistral(), f"Well. [TOOL_CALLS] [{ADD}", f"Well. [TOOL_CALLS] [{ADD}", []),
    (Mistral(), "[TOOL_CALLS] [7]", "[TOOL_CALLS] [7]", []),
    (MistralArguments(), 'Well. [TOOL_CALLS]add[ARGS]{"a": 1, "b": "ü"}[TOOL_CALLS]get[ARGS]{}', "Well.", [ADDED, GOT]),
    (MistralArguments(), "[TOOL_CALLS]get[ARGS]{", "[TOOL_CALLS]get[ARGS]{", []),
    (MistralArguments(), "[TOOL_CALLS][ARGS]{}", "[TOOL_CALLS][ARGS]{}", []),
    (MistralArguments(), "[TOOL_CALLS]get", "[TOOL_CALLS]get", []),
    (Tags(), tags("add", a="1", b="ü"), "", [ADDED]),
    (Tags(), f"Well.\n\n{tags('add', a='1', b='ü')}\n{tags('get')}\n", "Well.", [ADDED, GOT]),
    (Tags(), "<tool_call><function=get></function></tool_call>", "", [GOT]),
    (Tags(), "<tool_call>\n<function=get>\n", "", [GOT]),
    (Tags(), "<tool_call>\n<function=get>\nx", "<tool_call>\n<function=get>\nx", []),
    (Tags(), tags("add", b="1", c="null", d="[1, 2]", e="x"), "", [("add", {"b": "1", "c": None, "d": [1, 2], "e": "x"})]),
    (Tags(), tags("add", a="no number", c='"null"', f="{}", g="7"), "", [("add", {"a": "no number", "c": '"null"', "f": {}, "g": "7"})]),
    (Tags(), tags("add", b="two\n\nlines", f="plain"), "", [("add", {"b": "two\n\nlines", "f": "plain"})]),
    (Tags(), tags("new", a="1"), "", [("new", {"a": "1"})]),
    (Tags(), f"<tool_call>\n{ADD}\n</tool_call>", f"<tool_call>\n{ADD}\n</tool_call>", []),
]  # fmt: skip


@pytest.mark.parametrize(("form", "text", "said", "calls"), CASES)
def test_calls_are_found_however_the_text_is_cut(
    form: Form, text: str, said: str, calls: list[Any], rng: np.random.Generator
) -> None:
    assert parse(form, [text]) == (said, calls)
    assert parse(form, list(text)) == (said, calls)
    for _ in range(20):
        cuts = sorted({0, len(text), *rng.integers(0, len(text) + 1, 4).tolist()})
        assert parse(form, [text[a:b] for a, b in zip(cuts, cuts[1:])]) == (said, calls)


def test_text_is_not_held_back_longer_than_needed() -> None:
    hermes, mistral, llama = (form.parser(NAMED) for form in (Hermes(), Mistral(), Llama()))
    assert hermes.put("Hello <")[0] == "Hello"
    assert hermes.put("b>")[0] == " <b>"
    assert hermes.put(f"<tool_call>{GET}</tool_call>")[1][0].name == "get"
    assert mistral.put("Hello [TO")[0] == "Hello"
    assert llama.put("Hello {")[0] == "Hello {"
    assert llama.put("{")[0] == "{"


HERMES = """{%- if tools %}# Tools{% for tool in tools %}{{ tool | tojson }}{% endfor %}
For each call return <tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call>{% endif %}"""
LLAMA = """{%- if tools %}Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.
{{ tools | tojson }}{% endif %}"""
MISTRAL = """{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{{ "[TOOL_CALLS]" }}"""


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (HERMES, "hermes"),
        (LLAMA, "llama"),
        (LLAMA.replace('"name"', '\\"name\\"').replace('"parameters"', '\\"parameters\\"'), "llama"),
        (MISTRAL, "mistral"),
        ("{{ messages }}", None),
        (None, None),
        (HERMES + "<function=example><parameter=example>", "tags"),
        (HERMES + "<function=example>", None),
        (HERMES + "<invoke name", None),
        (HERMES + "<arg_key>", None),
        (MISTRAL + "[ARGS]", "mistral arguments"),
        (MISTRAL + "[CALL_ID]", None),
        (HERMES + MISTRAL, None),
    ],
)
def test_the_form_is_that_of_the_template(template: str | None, name: str | None) -> None:
    form = form_of(template)
    assert (form and form.name) == name


SCHEMA = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/small"}},
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"small": {"type": "integer", "minimum": 0, "maximum": 9}},
    "description": "has root ::= in it",
}
TOOLS = [Tool("add", SCHEMA), Tool('g"et', {"type": "object", "properties": {}, "additionalProperties": False})]


@pytest.mark.parametrize("kind", [CONTROL, USER_DEFINED])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("form", [Hermes(), Tags(), Llama(), Mistral(), MistralArguments()], ids=lambda form: form.name)
def test_what_a_grammar_lets_through_is_parsed(
    form: Form, several: bool, kind: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Random ways through it; marks are tokens with a text, or without."""
    pytest.importorskip("llguidance")
    from tailrace.text.grammar import Grammars

    tokenizer = Tokenizer(model_with(tmp_path, with_tokens(BPE, *((mark, kind) for mark in form.marks))))
    v = tokenizer.vocabulary
    control = {mark: v.ids[mark] for mark in form.marks} if kind == CONTROL else {}
    grammars, grammar = Grammars(tokenizer), form.grammar(TOOLS, control, several)
    counts = set()
    for _ in range(12):
        state, text, tokens = grammars.begin(grammar), list[str](), 0
        stream = tokenizer.stream(text.append, control.values())
        while not state.is_complete and tokens < 1_000:
            allowed = np.flatnonzero(np.isfinite(state.mask(np.zeros(len(v.tokens), np.float32))))
            blank = [v.ids["Ġ"], v.ids["Ċ"], v.ids["ĉ"], v.ids["ĠĠ"]]
            choices = [int(token) for token in allowed if token not in blank or rng.random() < 0.3] or allowed.tolist()
            token = int(rng.choice(choices))
            if token in tokenizer.ends:
                break
            state.take(token)
            stream.put(token)
            tokens += 1
        parser = form.parser(TOOLS)
        first, found = parser.put("".join(text))
        rest, last = parser.end()
        assert first + rest == ""
        assert found + last
        counts.add(len(found + last))
        for call in found + last:
            assert call.name in ("add", 'g"et')
            arguments = json.loads(call.arguments)
            assert set(arguments) == ({"a"} if call.name == "add" else set())
    assert (max(counts) > 1) == (several and form.several)


@pytest.mark.parametrize("kind", [CONTROL, USER_DEFINED])
@pytest.mark.parametrize(
    ("form", "calls", "broken"),
    [
        (
            Hermes(),
            ('<tool_call>\n{"name": "add", "arguments": {"a": 3}}\n</tool_call>', 'So.\n<tool_call>\n{"name": "any", "arguments": {"b": [1]}}\n</tool_call>\n'),
            ('So. <tool_call>\n{"name": "add", "arguments": {"a": 12', "<tool_call>\n[", 'x<tool_call>\n{"name": "else'),
        ),
        (
            Llama(),
            ('{"name": "add", "parameters": {"a": 3}}', '{"name": "any", "parameters": {"b": {}}}'),
            ('{"name": "add", "parameters": {"a": 12', '{"x', ' {"b'),
        ),
        (
            Tags(),
            (tags("add", a="3"), f"So.\n{tags('any', b='x', c='<y>')}\n"),
            (tags("add", a="12"), tags("else"), "<tool_call>\n{", tags("add")),
        ),
        (
            MistralArguments(),
            ('[TOOL_CALLS]add[ARGS]{"a": 3}', 'Well: [TOOL_CALLS]any[ARGS]{"b": []}'),
            ('[TOOL_CALLS]add[ARGS]{"a": 12', "[TOOL_CALLS]else", "x [TOOL_CALLS][ARGS]"),
        ),
        (
            Mistral(),
            ('[TOOL_CALLS][{"name": "add", "arguments": {"a": 3}}]', 'Well: [TOOL_CALLS][{"name": "any", "arguments": {}}]'),
            ('[TOOL_CALLS][{"name": "add", "arguments": {"a": 12', "[TOOL_CALLS]{", 'x [TOOL_CALLS][{"name": "else'),
        ),
    ],
    ids=["hermes", "llama", "tags", "mistral arguments", "mistral"],
)  # fmt: skip
def test_texts_with_calls_of_strict_tools(
    form: Form, calls: tuple[str, ...], broken: tuple[str, ...], kind: int, tmp_path: Path
) -> None:
    """Text is free, and so are arguments of tools that are not strict; what breaks a schema can't be said."""
    pytest.importorskip("llguidance")
    from tailrace.text.grammar import Grammars

    tokenizer = Tokenizer(model_with(tmp_path, with_tokens(BPE, *((mark, kind) for mark in form.marks))))
    v = tokenizer.vocabulary
    control = {mark: v.ids[mark] for mark in form.marks} if kind == CONTROL else {}
    tools = (Tool("add", SCHEMA, True), Tool("any", {"type": "object"}))
    grammars, grammar = Grammars(tokenizer), form.grammar(tools, control, False, required=False)

    def accepted(text: str) -> tuple[int, int, bool]:
        """Tokens of a text that may be said one after the other, all of them, and whether the answer may end there."""
        state, tokens = grammars.begin(grammar), tokenizer.encode(text, False)
        for place, token in enumerate(tokens):
            allowed = state.mask(np.zeros(len(v.tokens), np.float32))
            if not np.isfinite(allowed[token]):
                return place, len(tokens), False
            state.take(token)
        allowed = state.mask(np.zeros(len(v.tokens), np.float32))
        return len(tokens), len(tokens), state.is_complete or any(np.isfinite(allowed[end]) for end in tokenizer.ends)

    for text in (*calls, "ab ab", "a b: {a}\n\n[b]"):
        taken, all_of_them, ends = accepted(text)
        assert (taken, ends) == (all_of_them, True), text
    for text in broken:
        taken, all_of_them, _ = accepted(text)
        assert taken < all_of_them, text


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (
            {"properties": {"a": {"type": "string", "pattern": "x+", "maxLength": 3}}},
            "this model's form of calls can't hold the parameter 'a' of 'add' to its pattern or maxLength",
        ),
        (
            {"anyOf": [{"properties": {}}]},
            "the parameters of 'add' must be an object with properties for this model's form of calls",
        ),
        ({"type": "string"}, "the parameters of 'add' must be an object with properties for this model's form of calls"),
    ],
)
def test_what_tags_cannot_be_held_to(parameters: dict[str, Any], text: str) -> None:
    pytest.importorskip("llguidance")
    with pytest.raises(ConfigError) as error:
        Tags().grammar([Tool("add", parameters)], {}, False)
    assert str(error.value) == text
