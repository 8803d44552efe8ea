"""Tools over HTTP: calls that must be made, calls that a model chooses to make, and what is refused."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("llguidance")

import tailrace
from tailrace import LanguageModel
from verification.unit.host.server.client import Client, serving
from verification.unit.host.tiny_models import CHAT_TEMPLATE, write_model

CHAT = "/v1/chat/completions"
#: A turn with its tools, calls and results, as a template in the style of Qwen has it.
TEMPLATE = """{%- if tools %}{{ tools | tojson }}<tool_call>{"name": ..., "arguments": ...}</tool_call>{% endif -%}
{%- for m in messages %}{{ m.role }}:{{ m.content }}
{%- for call in m.tool_calls %}<tool_call>{{ call.function.name }}({{ call.function.arguments.a }})</tool_call>{% endfor %};{% endfor %}>"""
ADD = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"], "additionalProperties": False}  # fmt: skip
TOOLS = [
    {"type": "function", "function": {"name": "add", "description": "adds", "parameters": ADD}},
    {"type": "function", "function": {"name": "get", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}},
]  # fmt: skip
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "ab"}], "tools": TOOLS, "temperature": 1, "seed": 4}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    model = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1, chat_template=TEMPLATE, context=1024)
    with tailrace.load(model, context=1024, batch=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(lm: LanguageModel) -> Iterator[Client]:
    with serving(lm) as client:
        yield client


@contextmanager
def saying(lm: LanguageModel, tokens: Sequence[int]) -> Iterator[None]:
    """Have the model say something, one answer at a time; after that it ends."""
    decoder, take, left = lm.engine.decoder, lm.engine.decoder.take, list(tokens)

    def changed(given: Any, kind: Any, *more: Any) -> Any:
        results = take(given, kind, *more)
        if kind == "logits":
            (logits,) = (found for found in results if found is not None)
            logits[-1, left.pop(0) if left else 2] = 1e6
        return results

    decoder.take, lm.engine.speculate = changed, False  # type: ignore[method-assign]
    try:
        yield
    finally:
        decoder.take, lm.engine.speculate = take, True  # type: ignore[method-assign]


def parts_of(parts: list[Any]) -> tuple[str, list[Any], Any]:
    """Text, calls and reason of a stream."""
    text, calls = "", list[Any]()
    for part in parts:
        delta = part["choices"][0]["delta"]
        text += delta.get("content") or ""
        for call in delta.get("tool_calls", ()):
            assert call["index"] == len(calls)
            calls.append(call["function"])
    return text, calls, parts[-1]["choices"][0]["finish_reason"]


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get"}}, {"type": "function", "function": {"name": "add"}}]
)
@pytest.mark.parametrize("parallel", [False, True])
def test_a_call_that_must_be_made(client: Client, choice: Any, parallel: bool) -> None:
    # A random model would go on with calls for ever.
    body = {**ASKED, "tool_choice": choice, "parallel_tool_calls": parallel, "max_tokens": 400, "logit_bias": {"2": 50}}
    status, answer, _ = client.ask(CHAT, body)
    assert status == 200, answer
    (one,) = answer["choices"]
    assert one["finish_reason"] == "tool_calls"
    assert one["message"]["content"] is None
    calls = one["message"]["tool_calls"]
    assert parallel or len(calls) == 1
    for call in calls:
        assert (call["type"], len(call["id"])) == ("function", 9)
        arguments = json.loads(call["function"]["arguments"])
        assert choice == "required" or call["function"]["name"] == choice["function"]["name"]
        assert set(arguments) == ({"a"} if call["function"]["name"] == "add" else set())
    text, streamed, reason = parts_of(client.stream(CHAT, body))
    assert (text, reason) == ("", "tool_calls")
    assert streamed == [call["function"] for call in calls]


def test_a_strict_tool_is_called_as_its_schema_has_it(client: Client, lm: LanguageModel) -> None:
    """The model would say a number that the schema has not; without a strict tool it does."""
    said = 'So. <tool_call>\n{"name": "add", "arguments": {"a": 77}}\n</tool_call>'
    strict = [{"type": "function", "function": {**tool["function"], "strict": True}} for tool in TOOLS]
    for tools, expected in ((TOOLS, '{"a": 77}'), (strict, '{"a": 7}')):
        with saying(lm, lm.tokenizer.encode(said, False)):
            (choice,) = client.ask(CHAT, {**ASKED, "tools": tools})[1]["choices"]
        assert choice["message"]["content"] == "So."
        assert [call["function"]["arguments"] for call in choice["message"]["tool_calls"]] == [expected]
    status, answer, _ = client.ask(
        CHAT, {**ASKED, "tools": [{"type": "function", "function": {"name": "add", "strict": "yes"}}]}
    )
    text = "tools[0] must be strict or not (true or false), not 'yes'"
    assert (status, answer["error"]["message"]) == (400, text)


@pytest.mark.parametrize("parallel", [True, False])
def test_calls_that_the_model_chooses_to_make(client: Client, lm: LanguageModel, parallel: bool) -> None:
    said = 'So. <tool_call>\n{"name": "add", "arguments": {"a": 3}}\n</tool_call>\n<tool_call>{"name": "get", "arguments": {}}</tool_call>'
    tokens = lm.tokenizer.encode(said, False)
    expected = [{"name": "add", "arguments": '{"a": 3}'}, {"name": "get", "arguments": "{}"}][: 2 if parallel else 1]
    body = {**ASKED, "parallel_tool_calls": parallel}
    with saying(lm, tokens):
        (choice,) = client.ask(CHAT, body)[1]["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "So."
    assert [call["function"] for call in choice["message"]["tool_calls"]] == expected
    with saying(lm, tokens):
        assert parts_of(client.stream(CHAT, body)) == ("So.", expected, "tool_calls")


def test_none_of_the_tools(client: Client, lm: LanguageModel) -> None:
    """What is no call stays text; with none the model knows of no tools."""
    with saying(lm, lm.tokenizer.encode("No <tool_call> here", False)):
        (choice,) = client.ask(CHAT, ASKED)[1]["choices"]
    assert (choice["message"], choice["finish_reason"]) == ({"role": "assistant", "content": "No <tool_call> here"}, "stop")
    plain = {name: value for name, value in ASKED.items() if name != "tools"} | {"max_tokens": 5}
    without = client.ask(CHAT, plain)[1]
    for more in ({"tools": TOOLS, "tool_choice": "none"}, {"tools": []}, {"tools": None, "tool_choice": "auto"}):
        answer = client.ask(CHAT, {**plain, **more})[1]
        assert answer["choices"] == without["choices"]
        assert answer["usage"]["prompt_tokens"] == without["usage"]["prompt_tokens"]


def test_an_answer_that_is_cut_off_in_a_call(client: Client, lm: LanguageModel) -> None:
    with saying(lm, lm.tokenizer.encode('<tool_call>{"name": "add"', False)):
        (choice,) = client.ask(CHAT, {**ASKED, "max_tokens": 20})[1]["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].startswith('<tool_call>{"name"')


def test_what_was_called_and_what_came_of_it(client: Client, lm: LanguageModel) -> None:
    """The chat template gets arguments as objects, as transformers has them; texts of tools are no control tokens."""
    call = {"id": "call00001", "type": "function", "function": {"name": "add", "arguments": '{"a": 7, "<|im_end|>": 1}'}}
    messages = [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "call00001", "content": [{"type": "text", "text": "8"}]},
    ]
    found = client.ask("/tokenize", {"messages": messages})[1]["tokens"]
    assert lm.tokenizer.decode(found) == "user:ab;assistant:<tool_call>add(7)</tool_call>;tool:8;>"
    assert client.ask(CHAT, {**ASKED, "messages": messages, "max_tokens": 1})[0] == 200
    sly = [{"type": "function", "function": {"name": "x", "parameters": {"properties": {"<|im_end|>": {}}}}}]
    tokens = client.ask("/tokenize", {"messages": messages[:1], "tools": sly})[1]["tokens"]
    assert 2 not in tokens
    assert "<|im_end|>" in lm.tokenizer.decode(tokens)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"tools": "add"}, "tools", "tools must be a list of tools, not 'add'"),
        ({"tools": [{"type": "code"}]}, "tools[0]", "tools[0] must be an object of type function, with a function that has a name, not {'type': 'code'}"),
        ({"tools": [{"type": "function", "function": {"name": "x", "parameters": 7}}]}, "tools[0]", "tools[0] must have a JSON schema as its parameters, not 7"),
        ({"tool_choice": "always"}, "tool_choice", "tool_choice must be none, auto, required, or name a function, not 'always'"),
        ({"tool_choice": {"type": "function", "function": {"name": "sub"}}}, "tool_choice", "tool_choice names 'sub', which is none of the tools"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "tool_choice is required, and there are no tools: give some"),
        ({"response_format": {"type": "json_object"}}, "tools", "tools and a grammar or schema for the answer exclude each other: leave one of them out"),
        ({"tool_choice": "required", "ignore_eos": True}, "tool_choice", "tool_choice says where the answer ends: leave min_tokens and ignore_eos out"),
        ({"messages": [{"role": "assistant", "tool_calls": [7]}]}, "messages[0]", "messages[0] must have calls of functions as its tool_calls, not 7"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": "["}}]}]},
            "messages[0]",
            "messages[0] calls x with arguments that are no JSON object: '['",
        ),
        ({"functions": [{"name": "x"}]}, "functions", "functions of [{'name': 'x'}] is not supported: leave it out"),
    ],
)  # fmt: skip
def test_what_is_refused(client: Client, fields: dict[str, Any], param: str, message: str) -> None:
    status, answer, _ = client.ask(CHAT, {**ASKED, **fields})
    assert (status, answer["error"]["param"], answer["error"]["message"]) == (400, param, message)


def test_without_llguidance_the_model_may_choose(client: Client, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    status, answer, _ = client.ask(CHAT, {**ASKED, "tool_choice": "required"})
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (501, "tool_choice", "missing_package")
    with saying(lm, lm.tokenizer.encode('<tool_call>{"name": "get", "arguments": {}}</tool_call>', False)):
        assert client.ask(CHAT, ASKED)[1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            CHAT_TEMPLATE,
            "tools are not supported with this model: its chat template has none of the forms of calls that are known here (Hermes"
            " and Qwen, Qwen3-Coder, Llama 3.1, Mistral). Leave them out, or say tool_choice: none",
        ),
        (CHAT_TEMPLATE + "{# <tool_call> #}", "tools are not supported with this model: its chat template takes none"),
    ],
)
def test_models_that_know_no_tools(tmp_path: Any, template: str, message: str) -> None:
    model = write_model(tmp_path / "tiny.gguf", layers=1, chat_template=template)
    with tailrace.load(model, context=64) as lm, serving(lm) as client:
        status, answer, _ = client.ask(CHAT, ASKED)
        assert (status, answer["error"]["param"], answer["error"]["message"]) == (400, "tools", message)
        assert client.ask(CHAT, {**ASKED, "tool_choice": "none", "max_tokens": 2})[0] == 200
