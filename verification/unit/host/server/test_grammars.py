"""Requests over HTTP for answers that fit a schema or a grammar, by the fields of OpenAI, llama.cpp and vLLM."""

import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("llguidance")

import tailrace
from tailrace import Grammar, LanguageModel
from verification.unit.host.server.client import Client, serving
from verification.unit.host.tiny_models import write_model

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "ab"}]
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    model = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)
    with tailrace.load(model, context=64, batch=4) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(lm: LanguageModel) -> Iterator[Client]:
    with serving(lm) as client:
        yield client


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}}, Grammar.json_schema(SCHEMA)),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, Grammar.json_schema(SCHEMA)),
        ({"json_schema": SCHEMA}, Grammar.json_schema(SCHEMA)),
        ({"grammar": 'root ::= "x" [0-9] root | "y"'}, Grammar.text('root ::= "x" [0-9] root | "y"')),
        ({"guided_json": SCHEMA}, Grammar.json_schema(SCHEMA)),
        ({"guided_json": json.dumps(SCHEMA)}, Grammar.json_schema(SCHEMA)),
        ({"guided_regex": "[0-9]{7}"}, Grammar.regex("[0-9]{7}")),
        ({"guided_choice": ["yes", "no"]}, Grammar.choice(["yes", "no"])),
        ({"guided_grammar": 'root ::= "q"'}, Grammar.text('root ::= "q"')),
        ({"structured_outputs": {"json": SCHEMA, "regex": None}}, Grammar.json_schema(SCHEMA)),
        ({"structured_outputs": {"choice": ["yes", "no"], "json_object": False}}, Grammar.choice(["yes", "no"])),
    ],
)  # fmt: skip
def test_a_field_is_the_grammar_of_the_api(client: Client, lm: LanguageModel, fields: dict[str, Any], grammar: Grammar) -> None:
    body = {"max_tokens": 40, "temperature": 1.5, "seed": 3, **fields}
    whole = client.ask(COMPLETIONS, {"prompt": "ab", **body})[1]["choices"][0]
    streamed = "".join(part["choices"][0]["text"] for part in client.stream(COMPLETIONS, {"prompt": "ab", **body}))
    chat = client.ask(CHAT, {"messages": MESSAGES, **body})[1]["choices"][0]
    with serving_paused(client):
        options: dict[str, Any] = {"max_tokens": 40, "temperature": 1.5, "seed": 3, "grammar": grammar}
        expected, answered = lm.generate("ab", **options), lm.chat(MESSAGES, **options)
    assert (whole["text"], whole["finish_reason"]) == (expected.text, expected.finish_reason)
    assert streamed == expected.text
    assert chat["message"]["content"] == answered.text


def serving_paused(client: Client) -> Any:
    """While nothing is asked the model may be used directly."""
    return client.server.engine.lock


def test_any_object(client: Client) -> None:
    body = {"messages": MESSAGES, "response_format": {"type": "json_object"}, "max_tokens": 40, "logit_bias": {"128": 100}}
    text = client.ask(CHAT, body)[1]["choices"][0]["message"]["content"]
    assert text == "{}"


def test_plain_text_is_anything(client: Client) -> None:
    body = {"prompt": "ab", "max_tokens": 5, "temperature": 0}
    plain = client.ask(COMPLETIONS, body)[1]["choices"]
    for fields in (
        {"response_format": {"type": "text"}},
        {"grammar": ""},
        {"structured_outputs": None},
        {"structured_outputs": {}},
    ):
        assert client.ask(COMPLETIONS, {**body, **fields})[1]["choices"] == plain


def test_many_at_once(client: Client) -> None:
    """With grammars and without, more than there are sequences; each as it is alone."""
    bodies = [
        {"prompt": f"{n}ab", "max_tokens": 24, "temperature": 1, "seed": n, **([{}, {"json_schema": SCHEMA}, {"guided_regex": "[a-z]{16}"}][n % 3])}
        for n in range(9)
    ]  # fmt: skip
    alone = [client.ask(COMPLETIONS, body)[1]["choices"] for body in bodies]
    together: list[Any] = [None] * 9

    def one(n: int) -> None:
        together[n] = client.ask(COMPLETIONS, bodies[n])[1]["choices"]

    threads = [threading.Thread(target=one, args=(n,)) for n in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"response_format": {"type": "xml"}}, "response_format", "response_format can't be used: response_format must be of type text, json_object or json_schema, not 'xml'"),
        ({"response_format": "json"}, "response_format", "response_format must be an object, not 'json'"),
        ({"json_schema": {"type": "obj"}}, None, "the grammar can't be used: Invalid type: obj"),
        ({"grammar": "root ::= x"}, "grammar", "grammar can't be used: the grammar is no GBNF: Rule 'x' not found"),
        ({"guided_regex": 7}, "guided_regex", "guided_regex must be a text, not 7"),
        ({"guided_json": 7}, "guided_json", "guided_json must be an object or a text, not 7"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag", "structured_outputs.structural_tag is not supported: leave it out"),
        ({"grammar": 'root ::= "a"', "json_schema": SCHEMA}, "grammar", "grammar and json_schema both say what the answer may be: leave one of them out"),
        ({"grammar": 'root ::= "a"', "ignore_eos": True}, "grammar", "grammar says where the answer ends: leave min_tokens and ignore_eos out"),
    ],
)  # fmt: skip
def test_what_is_refused(client: Client, fields: dict[str, Any], param: str | None, message: str) -> None:
    status, answer, _ = client.ask(COMPLETIONS, {"prompt": "ab", **fields})
    assert (status, answer["error"]["param"], answer["error"]["message"]) == (400, param, message)


def test_without_llguidance(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    status, answer, _ = client.ask(COMPLETIONS, {"prompt": "ab", "json_schema": SCHEMA})
    assert (status, answer["error"]["code"]) == (501, "missing_package")
    assert answer["error"]["message"] == (
        "the Python package llguidance is needed for grammars and JSON schemas: run make setup in Tailrace's folder, or there:"
        " .venv/bin/pip install -e '.[grammar]'"
    )


def test_an_answer_for_which_no_token_is_left_fails_alone(client: Client) -> None:
    """In the middle of its steps, while another one goes on."""
    other: list[Any] = []
    body = {"prompt": "ab", "max_tokens": 40, "temperature": 1, "seed": 1, "ignore_eos": True}
    thread = threading.Thread(target=lambda: other.append(client.ask(COMPLETIONS, body)))
    thread.start()
    banned = b'{"prompt": "ab", "grammar": "root ::= \\"aaaa\\"", "logit_bias": {"100": -Infinity}}'
    status, answer, _ = client.ask(COMPLETIONS, banned)
    thread.join()
    assert (status, answer["error"]["code"]) == (400, "no_token_possible")
    assert answer["error"]["message"].startswith("no token can be chosen")
    assert other[0][0] == 200
    assert other[0][1]["usage"]["completion_tokens"] == 40


def test_an_end_that_is_ignored_or_late(client: Client) -> None:
    body = {"prompt": "ab", "max_tokens": 6, "temperature": 0, "logit_bias": {"2": 100000}}
    lengths = [
        client.ask(COMPLETIONS, {**body, **fields})[1]["usage"]["completion_tokens"]
        for fields in ({}, {"min_tokens": 4}, {"ignore_eos": True})
    ]
    assert lengths == [0, 4, 6]
