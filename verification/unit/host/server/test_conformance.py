"""What clients and proxies of others rely on: the fields that they were seen to send, limits, origins, leaving the queue."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import tailrace
from tailrace import LanguageModel
from verification.unit.host.server.client import Client, serving
from verification.unit.host.server.test_server import before_each_step
from verification.unit.host.tiny_models import write_model

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "ab"}]}]
#: What other clients sent to a server that wrote it down.
SENT: dict[str, tuple[str, dict[str, Any]]] = {
    "guidellm": (CHAT, {"messages": MESSAGES, "max_completion_tokens": 5, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
    "aiperf": (CHAT, {"messages": MESSAGES, "max_completion_tokens": 5, "stream": True, "stream_options": {"include_usage": True}}),
    "llama-benchy": (CHAT, {"messages": MESSAGES, "max_tokens": 5, "stream": True, "return_token_ids": True, "stream_options": {"include_usage": True}}),
    "vllm bench": (COMPLETIONS, {"prompt": "ab", "max_tokens": 5, "ignore_eos": True, "repetition_penalty": 1.0, "logprobs": None, "stream": True, "stream_options": {"include_usage": True}}),
    "lm_eval": (COMPLETIONS, {"prompt": [[100, 101]], "max_tokens": 1, "echo": True, "logprobs": 1, "seed": 1234, "temperature": 0}),
    "langchain": (CHAT, {"messages": MESSAGES, "max_completion_tokens": 5, "stream": False, "user": "me", "top_k": 40, "min_p": 0.0}),
}  # fmt: skip


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    model = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)
    with tailrace.load(model, context=64, batch=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(lm: LanguageModel) -> Iterator[Client]:
    with serving(lm, origins=("https://page.example",)) as client:
        yield client


@pytest.mark.parametrize("name", SENT)
def test_what_clients_send_is_taken(client: Client, name: str) -> None:
    path, body = SENT[name]
    if not body.get("stream"):
        status, answer, _ = client.ask(path, {"model": "tiny", **body})
        assert status == 200, answer
        return
    parts = client.stream(path, {"model": "tiny", **body})
    reasons = [choice["finish_reason"] for part in parts for choice in part["choices"]]
    assert reasons[-1] in ("stop", "length")
    assert set(reasons[:-1]) <= {None}
    usage = parts[-1]["usage"]
    assert (parts[-1]["choices"], usage["prompt_tokens_details"]["cached_tokens"] <= usage["prompt_tokens"]) == ([], True)
    assert "ignore_eos" not in body or usage["completion_tokens"] == 5


def test_a_request_that_is_too_large(client: Client) -> None:
    status, answer, _ = client.ask(CHAT, b" " * ((16 << 20) + 1))
    assert (status, answer["error"]["message"]) == (413, "the request has more than 16 MiB: send less")


def test_pages_of_an_origin_may_ask(client: Client) -> None:
    connection = client.connect()
    allowed = {}
    for origin in ("https://page.example", "https://other.example"):
        asked = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        connection.request("OPTIONS", CHAT, headers=asked)
        response = connection.getresponse()
        response.read()
        allowed[origin] = (response.status, response.getheader("access-control-allow-origin"))
    connection.close()
    assert allowed == {"https://page.example": (200, "https://page.example"), "https://other.example": (400, None)}


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_the_queue_is_never_computed(lm: LanguageModel, stream: bool) -> None:
    """And nobody else is touched."""
    go_on = threading.Event()
    told: list[Any] = []
    with before_each_step(lm, lambda: go_on.wait(0.1)), serving(lm) as client:
        body = {"prompt": "ab", "max_tokens": 40, "n": 2, "temperature": 1, "ignore_eos": True}
        running = threading.Thread(target=lambda: told.append(client.ask(COMPLETIONS, body)))
        running.start()
        load, deadline = client.server.scheduler.load, time.monotonic() + 20
        while load.running < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        connection = client.connect()
        connection.request("POST", COMPLETIONS, json.dumps({**body, "prompt": "xyz", "stream": stream}))
        while load.waiting < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        connection.close()
        while load.waiting:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert load.running == 2
        go_on.set()
        running.join()
        assert (load.cancelled, load.finished, load.prompt_tokens) == (1, 2, 2)
    assert told[0][0] == 200
    assert told[0][1]["usage"]["completion_tokens"] == 80
