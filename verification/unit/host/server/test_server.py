"""The server over HTTP: answers are those of the model alone, whatever else is asked; errors have OpenAI's shape."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn")

import tailrace
from tailrace import LanguageModel
from verification.unit.host.server.client import Client, before_each_step, serving
from verification.unit.host.tiny_models import write_model

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
#: No end of the answer, so that lengths are known.
ENDLESS: dict[str, Any] = {"logit_bias": {"2": -1e5}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)


@pytest.fixture(scope="module")
def reference(model: Path) -> Iterator[LanguageModel]:
    with tailrace.load(model, context=64) as opened:
        yield opened


@pytest.fixture(scope="module")
def lm(model: Path) -> Iterator[LanguageModel]:
    with tailrace.load(model, context=64, batch=4) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(lm: LanguageModel) -> Iterator[Client]:
    with serving(lm) as client:
        yield client


def ask(client: Client, path: str, **body: Any) -> Any:
    status, answer, _ = client.ask(path, body)
    assert status == 200, answer
    return answer


def refused(client: Client, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    status, answer, _ = client.ask(path, body, **headers)
    assert set(answer["error"]) >= {"message", "type", "param", "code"}
    return status, answer["error"]


def test_a_chat(client: Client, reference: LanguageModel) -> None:
    messages = [{"role": "system", "content": "ab"}, {"role": "user", "content": "cd"}]
    answer = ask(client, CHAT, model="tiny", messages=messages, max_tokens=6, temperature=0)
    expected = reference.chat(messages, max_tokens=6)
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "tiny"
    assert answer["id"].startswith("chatcmpl-")
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected.text}
    assert choice["finish_reason"] == "length"
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (expected.prompt_tokens, len(expected.tokens))
    assert usage["total_tokens"] == expected.prompt_tokens + 6


def test_what_is_held_already_is_not_computed_again(client: Client) -> None:
    body = {"prompt": "abcdabcdxyz", "max_tokens": 2, "temperature": 0}
    first, second = (ask(client, COMPLETIONS, **body) for _ in range(2))
    assert first["choices"] == second["choices"]
    usage = second["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1


@pytest.mark.parametrize("kind", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1.5, "seed": 7, "top_p": 0.9}])
def test_a_stream_says_what_the_whole_answer_says(client: Client, kind: str, options: dict[str, Any]) -> None:
    body: dict[str, Any] = {**ENDLESS, **options, "max_tokens": 9, "n": 2}
    body |= {"messages": [{"role": "user", "content": "abä"}]} if kind == CHAT else {"prompt": "abä"}
    whole = ask(client, kind, **body)
    parts = client.stream(kind, {**body, "stream_options": {"include_usage": True}})
    assert {part["id"] for part in parts} == {parts[0]["id"]}
    usage = parts.pop()
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == 18
    texts, reasons = ["", ""], [None, None]
    for part in parts:
        for choice in part["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "") if kind == CHAT else choice["text"]
            assert reasons[choice["index"]] is None
            reasons[choice["index"]] = choice["finish_reason"]
    said = [choice["message"]["content"] if kind == CHAT else choice["text"] for choice in whole["choices"]]
    assert texts == said
    assert reasons == ["length", "length"]
    # One seed, and still two answers.
    assert (said[0] == said[1]) == (options["temperature"] == 0)


def test_many_at_once_have_the_answers_that_they_have_alone(client: Client, reference: LanguageModel) -> None:
    """More requests than sequences, of different lengths, drawn and not."""
    prompts = ["ab" * (1 + n % 5) + "cdxyz"[n % 4 :] for n in range(12)]
    options = [{"temperature": 0.0} if n % 2 else {"temperature": 1.0, "seed": n} for n in range(12)]
    answers: list[Any] = [None] * 12

    def one(n: int) -> None:
        answers[n] = ask(client, COMPLETIONS, prompt=prompts[n], max_tokens=3 + n, **ENDLESS, **options[n])

    threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, answer in enumerate(answers):
        given: Any = {**options[n], "logit_bias": {2: -1e5}}
        assert answer["choices"][0]["text"] == reference.generate(prompts[n], max_tokens=3 + n, **given).text


def test_several_prompts_and_tokens(client: Client, reference: LanguageModel) -> None:
    tokens = reference.tokenizer.encode("abcd")
    by_text = ask(client, COMPLETIONS, prompt=["abcd", "xyz"], max_tokens=4, temperature=0)
    by_tokens = ask(client, COMPLETIONS, prompt=[tokens, reference.tokenizer.encode("xyz")], max_tokens=4, temperature=0)
    assert by_text["choices"] == by_tokens["choices"]
    alone = ask(client, COMPLETIONS, prompt=tokens, max_tokens=4, temperature=0)
    assert alone["choices"][0]["text"] == by_text["choices"][0]["text"]
    assert [choice["index"] for choice in by_text["choices"]] == [0, 1]


def test_logprobs(client: Client, reference: LanguageModel) -> None:
    expected = reference.generate("abcd", max_tokens=3, logprobs=2).logprobs
    assert expected is not None
    found = ask(client, COMPLETIONS, prompt="abcd", max_tokens=3, temperature=0, logprobs=2)["choices"][0]["logprobs"]
    assert found["token_logprobs"] == [one.logprob for one in expected]
    assert found["tokens"] == [one.text for one in expected]
    chat = ask(
        client, CHAT, messages=[{"role": "user", "content": "ab"}], max_tokens=3, temperature=0, logprobs=True, top_logprobs=2
    )
    content = chat["choices"][0]["logprobs"]["content"]
    assert [len(one["top_logprobs"]) for one in content] == [2, 2, 2]
    assert all(one["logprob"] <= one["top_logprobs"][0]["logprob"] for one in content)


def test_the_probabilities_of_a_prompt(client: Client, reference: LanguageModel) -> None:
    """As evaluations ask for them, also while others are answered; the logits are those of steps by hand."""
    tokens = reference.tokenizer.encode("abcdxyz")
    reference.decoder.reset()
    expected = []
    for token, following in pairwise(tokens):
        logits = reference.decoder.step(token).astype(np.float64)
        expected.append(float(logits[following] - np.logaddexp.reduce(logits)))
    reference.decoder.reset()
    others = threading.Thread(target=ask, args=(client, COMPLETIONS), kwargs={"prompt": "abcabc", "max_tokens": 20, **ENDLESS})
    others.start()
    body = {"prompt": [tokens, tokens[:3]], "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0, "seed": 1234}
    first, second = ask(client, COMPLETIONS, **body)["choices"]
    others.join()
    assert first["text"].startswith("abcdxyz")
    found = first["logprobs"]
    assert found["token_logprobs"][0] is None
    assert found["token_logprobs"][1:-1] == pytest.approx(expected, abs=1e-5)
    assert "".join(found["tokens"]) == first["text"]
    assert found["text_offset"] == [len("".join(found["tokens"][:n])) for n in range(len(found["tokens"]))]
    assert second["logprobs"]["token_logprobs"][:-1] == found["token_logprobs"][:3]
    assert len(found["top_logprobs"]) == len(tokens) + 1
    again = ask(client, COMPLETIONS, **body)["choices"]
    assert again == [first, second]


def test_stop_strings(client: Client, reference: LanguageModel) -> None:
    text = reference.generate("abcd", max_tokens=12, logit_bias={2: -1e5}).text
    stop = text[4:6]
    answer = ask(client, COMPLETIONS, prompt="abcd", max_tokens=12, temperature=0, stop=[stop, "never"], **ENDLESS)
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (text[: text.index(stop)], "stop")


def test_tokens_and_text(client: Client, reference: LanguageModel) -> None:
    tokens = reference.tokenizer.encode("abcd ä")
    assert ask(client, "/tokenize", prompt="abcd ä")["tokens"] == tokens
    assert ask(client, "/tokenize", content="abcd ä")["count"] == len(tokens)
    assert ask(client, "/detokenize", tokens=tokens)["prompt"] == "abcd ä"
    chat = ask(client, "/tokenize", messages=[{"role": "user", "content": "ab"}])["tokens"]
    assert chat == reference.tokenizer.encode_chat("ab")


def test_models_health_and_metrics(client: Client) -> None:
    status, models, _ = client.ask("/v1/models")
    assert (status, [one["id"] for one in models["data"]]) == (200, ["tiny", "other"])
    assert client.ask("/v1/models/other")[1]["max_model_len"] == 64
    assert client.ask("/health")[:2] == (200, {"status": "ok", "slots_idle": 4, "slots_processing": 0})
    assert client.ask("/props")[1]["total_slots"] == 4
    before = ask(client, COMPLETIONS, prompt="abcd", max_tokens=5, temperature=0, **ENDLESS)
    assert before["usage"]["completion_tokens"] == 5
    status, text, headers = client.ask("/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['vllm:generation_tokens_total{model_name="tiny"}']) >= 5
    assert float(values['vllm:num_requests_running{model_name="tiny"}']) == 0


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "text"),
    [
        (CHAT, b"{", 400, None, "the body is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (CHAT, [], 400, None, "the body must be a JSON object"),
        (CHAT, {}, 400, "messages", "messages must be a list of messages that is not empty, not None"),
        (CHAT, {"messages": []}, 400, "messages", "messages must be a list of messages that is not empty, not []"),
        (CHAT, {"messages": ["x"]}, 400, "messages[0]", "messages[0] must be an object with a role and a content, not 'x'"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "messages[0]",
            "messages[0] has a part of type 'image_url': this model reads only text",
        ),
        (COMPLETIONS, {"prompt": "ab", "model": "gpt-9"}, 404, "model", "there is no model 'gpt-9' here: ask for 'tiny' or 'other'"),
        (COMPLETIONS, {"prompt": 7}, 400, "prompt", "prompt must be a text, a list of texts, of tokens, or of lists of tokens, not 7"),
        (COMPLETIONS, {"prompt": [1, 10**9]}, 400, "prompt", None),
        (COMPLETIONS, {"prompt": ""}, 400, None, "the prompt is empty: it has no tokens"),
        (COMPLETIONS, {"prompt": "ab", "temperature": "hot"}, 400, "temperature", "temperature must be a number from 0 to 100, not 'hot'"),
        (COMPLETIONS, {"prompt": "ab", "max_tokens": 0}, 400, "max_tokens", "max_tokens must be a whole number of 1 or more, not 0"),
        (COMPLETIONS, {"prompt": "ab", "n": 0}, 400, "n", "n must be a whole number from 1 to 128, not 0"),
        (COMPLETIONS, {"prompt": "ab", "stop": [""]}, 400, "stop", "stop must be a text that is not empty, or a list of up to 16, not ['']"),
        (COMPLETIONS, {"prompt": "ab", "logit_bias": {"x": 1}}, 400, "logit_bias", "logit_bias must give a number for each token, not {'x': 1}"),
        (COMPLETIONS, {"prompt": "ab", "logit_bias": {"99999": 1}}, 400, "logit_bias", None),
        (COMPLETIONS, {"prompt": "ab", "suffix": "x"}, 400, "suffix", "suffix of 'x' is not supported: leave it out"),
        (COMPLETIONS, {"prompt": "ab", "echo": True, "stream": True}, 400, "echo", "echo of a stream is not supported: leave one of them out"),
        (CHAT, {"messages": [{"role": "user", "content": "a"}], "tools": [{}]}, 400, "tools[0]", None),
        (COMPLETIONS, {"prompt": "ab", "skip_special_tokens": False}, 400, "skip_special_tokens", "skip_special_tokens of False is not supported: leave it out"),
        ("/tokenize", {"prompt": "ab", "with_pieces": True}, 400, "with_pieces", "with_pieces of True is not supported: leave it out"),
        (COMPLETIONS, {"prompt": "ab", "colour": "red"}, 400, "colour", "colour is not a field of this request: leave it out"),
        ("/v1/none", {}, 404, None, "there is no /v1/none here"),
        (CHAT, None, 405, None, f"GET is not for {CHAT}"),
        ("/detokenize", {"tokens": "x"}, 400, "tokens", "tokens must be a list of tokens, not 'x'"),
        ("/tokenize", {}, 400, "prompt", "prompt is missing: give a text, or messages"),
    ],
)  # fmt: skip
def test_bad_requests(client: Client, path: str, body: Any, status: int, param: str | None, text: str | None) -> None:
    found, error = refused(client, path, body)
    assert (found, error["param"]) == (status, param)
    assert error["type"] == "invalid_request_error"
    assert text is None or error["message"] == text
    assert ask(client, COMPLETIONS, prompt="ab", max_tokens=1)["object"] == "text_completion"


def test_a_prompt_that_is_too_long(client: Client) -> None:
    status, error = refused(client, COMPLETIONS, {"prompt": "x" * 80})
    assert (status, error["code"], error["n_prompt_tokens"], error["n_ctx"]) == (400, "context_length_exceeded", 80, 64)
    assert error["message"].startswith("This model's maximum context length is 64 tokens. However, your prompt has 80 tokens")


def test_harmless_fields_are_taken(client: Client) -> None:
    body = {"prompt": "ab", "max_tokens": 2, "temperature": 0, "user": "me", "echo": False, "best_of": 1, "ignore_eos": False}
    assert ask(client, COMPLETIONS, **body, suffix=None, stream_options=None, top_k=-1)["usage"]["completion_tokens"] <= 2


def test_request_ids(client: Client) -> None:
    assert client.ask("/v1/models", None, x_request_id="mine")[2]["x-request-id"] == "mine"
    assert len(client.ask(CHAT, {})[2]["x-request-id"]) == 32


def test_keys(lm: LanguageModel) -> None:
    with serving(lm, api_keys=("secret", "other")) as client:
        status, error = refused(client, COMPLETIONS, {"prompt": "ab"})
        assert (status, error["code"], error["type"]) == (401, "invalid_api_key", "authentication_error")
        assert refused(client, COMPLETIONS, {"prompt": "ab"}, authorization="Bearer wrong")[0] == 401
        assert client.ask(COMPLETIONS, {"prompt": "ab", "max_tokens": 1}, authorization="Bearer other")[0] == 200
        assert client.ask("/health")[0] == 200
        assert client.ask("/metrics")[0] == 401


def test_a_queue_that_is_full(lm: LanguageModel) -> None:
    with serving(lm, queue=0) as client:
        status, error = refused(client, COMPLETIONS, {"prompt": "ab", "n": 5})
        assert (status, error["code"]) == (429, "queue_full")
        assert client.ask(COMPLETIONS, {"prompt": "ab", "n": 5})[2]["retry-after"] == "1"
        assert len(ask(client, COMPLETIONS, prompt="ab", n=4, max_tokens=2)["choices"]) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_frees_the_sequence(lm: LanguageModel, stream: bool) -> None:
    """Within a step: others need not wait until an answer that nobody reads is finished."""
    fast = threading.Event()
    with before_each_step(lm, lambda: fast.wait(0.05)), serving(lm) as client:
        connection = client.connect()
        body = {"prompt": "ab", "max_tokens": 60, "n": 4, "temperature": 1, "stream": stream, **ENDLESS}
        connection.request("POST", COMPLETIONS, json.dumps(body))
        deadline = time.monotonic() + 20
        while client.server.scheduler.load.running < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if stream:
            connection.getresponse().read(20)
        connection.close()
        while client.server.scheduler.load.running:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        load = client.server.scheduler.load
        assert (load.cancelled, load.finished) == (1, 0)
        fast.set()
        assert ask(client, COMPLETIONS, prompt="ab", max_tokens=2)["usage"]["completion_tokens"] <= 2


@pytest.mark.parametrize(
    ("kind", "question"), [(COMPLETIONS, {"prompt": "ab"}), (CHAT, {"messages": [{"role": "user", "content": "ab"}]})]
)
def test_a_stream_that_is_silent_says_that_it_is_there(lm: LanguageModel, kind: str, question: dict[str, Any]) -> None:
    """Until the first token; nothing is sent before that which clients would take for its time."""
    with before_each_step(lm, lambda: time.sleep(0.3)), serving(lm, keep_alive=0.05) as client:
        connection = client.connect()
        connection.request("POST", kind, json.dumps({**question, "max_tokens": 2, "temperature": 1, "stream": True}))
        text = connection.getresponse().read().decode()
        connection.close()
    assert text.startswith(": the answer is being computed\n\n")
    assert text.endswith("data: [DONE]\n\n")


def test_the_end_of_the_server_in_the_middle_of_a_stream(lm: LanguageModel) -> None:
    """Answers may go on for a while, and those that are cut off say so."""
    with before_each_step(lm, lambda: time.sleep(0.2)):
        with serving(lm) as client:
            connection = client.connect()
            body = {"prompt": "ab", "max_tokens": 60, "temperature": 1, "stream": True, **ENDLESS}
            connection.request("POST", COMPLETIONS, json.dumps(body))
            response = connection.getresponse()
            response.read(20)
        text = response.read().decode()
        connection.close()
    last = json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "shutting_down"


def test_a_device_that_fails(lm: LanguageModel) -> None:
    """All who are served are told; the next one is answered."""
    failures = [tailrace.TailraceError("the device stopped")]

    def fail_once() -> None:
        if failures:
            raise failures.pop()

    with before_each_step(lm, fail_once), serving(lm) as client:
        status, error = refused(client, COMPLETIONS, {"prompt": "ab", "temperature": 1})
        assert (status, error["message"], error["type"]) == (500, "the device stopped", "server_error")
        assert ask(client, COMPLETIONS, prompt="ab", max_tokens=2, temperature=1)["usage"]["completion_tokens"] <= 2
