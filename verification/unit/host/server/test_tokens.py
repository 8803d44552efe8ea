"""Tokens in, tokens out, as vLLM's front-ends ask for them."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import tailrace
from tailrace import LanguageModel
from verification.unit.host.server.client import Client, serving
from verification.unit.host.tiny_models import write_model

GENERATE, ABORT = "/inference/v1/generate", "/inference/v1/abort_requests"
TOKENS = [5, 9, 30, 7]
ENDLESS: dict[str, Any] = {"temperature": 0, "max_tokens": 6, "logit_bias": {"2": -1e5}}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    path: Path = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)
    with tailrace.load(path, context=64, batch=4) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(lm: LanguageModel) -> Iterator[Client]:
    with serving(lm) as client:
        yield client


def test_tokens_whole_and_in_a_stream(client: Client, lm: LanguageModel) -> None:
    expected = lm.generate(TOKENS, max_tokens=6, logit_bias={2: -1e5}, logprobs=2)
    assert expected.logprobs is not None
    body = {
        "request_id": "mine",
        "token_ids": TOKENS,
        "sampling_params": {**ENDLESS, "logprobs": 2, "detokenize": True, "stop": []},
    }
    status, answer, _ = client.ask(GENERATE, body)
    assert status == 200
    assert (answer["request_id"], answer["output_mode"], answer["kv_transfer_params"]) == ("mine", "tokens", None)
    (choice,) = answer["choices"]
    assert choice["token_ids"] == list(expected.tokens)
    assert choice["finish_reason"] == "length"
    first = choice["logprobs"]["content"][0]
    assert (first["token_id"], first["logprob"], first["rank"]) == (expected.tokens[0], expected.logprobs[0].logprob, 1)
    assert [one["token_id"] for one in first["top_logprobs"]] == [one.token for one in expected.logprobs[0].top]
    assert answer["usage"]["completion_tokens"] == 6
    parts = client.stream(GENERATE, {**body, "stream_options": {"include_usage": True}})
    assert parts[-1]["usage"] == {**answer["usage"], "prompt_tokens_details": {"cached_tokens": 3}}
    streamed = [token for part in parts for choice in part["choices"] for token in choice["token_ids"]]
    assert streamed == list(expected.tokens)
    assert parts[-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_an_abort(lm: LanguageModel, stream: bool) -> None:
    """By its id, and no other: it ends with what it has, and says so."""
    slow, take = threading.Event(), lm.engine.decoder.take

    def slowly(*arguments: Any) -> Any:
        slow.wait(0.05)
        return take(*arguments)

    lm.engine.decoder.take = slowly  # type: ignore[method-assign]
    try:
        with serving(lm) as client:
            body = {"token_ids": TOKENS, "sampling_params": {**ENDLESS, "max_tokens": 55}, "stream": stream}
            found: list[Any] = [None, None]

            def one(n: int) -> None:
                given = {**body, "request_id": f"request {n}"}
                found[n] = client.stream(GENERATE, given) if stream else client.ask(GENERATE, given)[1]

            threads = [threading.Thread(target=one, args=(n,)) for n in range(2)]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + 20
            while client.server.scheduler.load.running < 2:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert client.ask(ABORT, {"request_ids": ["request 0", "another"]})[0] == 200
            threads[0].join(20)
            slow.set()
            threads[1].join(20)
            ended, whole = found if not stream else [one[-1] for one in found]
            assert ended["choices"][0]["finish_reason"] == "abort"
            assert whole["choices"][0]["finish_reason"] == "length"
            load = client.server.scheduler.load
            assert (load.cancelled, load.finished) == (1, 1)
    finally:
        lm.engine.decoder.take = take  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("body", "param", "text"),
    [
        ({"sampling_params": {}}, "token_ids", "token_ids must be a list of tokens that is not empty, not None"),
        ({"token_ids": [], "sampling_params": {}}, "token_ids", "token_ids must be a list of tokens that is not empty, not []"),
        ({"token_ids": [10**6], "sampling_params": {}}, "token_ids", "token_ids has 1000000 among its tokens, which are whole numbers from 0 to 287"),
        ({"token_ids": [5]}, "sampling_params", "sampling_params is missing: give an object, which may be empty"),
        ({"token_ids": [5], "sampling_params": {"stop_token_ids": [7]}}, "stop_token_ids", "stop_token_ids of [7] is not supported: leave it out"),
        ({"token_ids": [5], "sampling_params": {"colour": 1}}, "colour", "colour is not a field of this request: leave it out"),
        ({"token_ids": [5], "sampling_params": {}, "features": {}}, "features", "features of {} is not supported: leave it out"),
        ({"token_ids": [5], "sampling_params": {}, "output_mode": "text"}, "output_mode", "output_mode of 'text' is not supported: tokens are"),
    ],
)  # fmt: skip
def test_bad_requests(client: Client, body: Any, param: str, text: str) -> None:
    status, answer, _ = client.ask(GENERATE, body)
    assert (status, answer["error"]["param"], answer["error"]["message"]) == (400, param, text)


def test_a_bad_abort(client: Client) -> None:
    status, answer, _ = client.ask(ABORT, {"request_ids": 7})
    assert (status, answer["error"]["message"]) == (400, "request_ids must be a list of texts, not 7")
