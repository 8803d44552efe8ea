"""The proxy, before a server of Tailrace's and one that stands in for vLLM's."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")
pytest.importorskip("torch")
pytest.importorskip("safetensors")

import uvicorn

import tailrace
from tailrace import LanguageModel
from tailrace.vllm.proxy import Proxy
from verification.unit.host.generation.handover_files import write_handover
from verification.unit.host.server.client import Client, serving
from verification.unit.host.tiny_models import write_model

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ENDLESS: dict[str, Any] = {"logit_bias": {"2": -1e5}, "temperature": 0, "max_tokens": 6}


class Prefill:
    """Computes prompts as vLLM does, as far as the proxy sees it."""

    def __init__(self, folder: Path, lm: LanguageModel) -> None:
        self.asked: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.answer: tuple[int, dict[str, Any]] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None: ...

            def reply(self, status: int, body: dict[str, Any]) -> None:
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def do_GET(self) -> None:
                self.reply(200, {"data": [{"id": "meta/llama"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append((body, {name.lower(): value for name, value in self.headers.items()}))
                if outer.answer is not None:
                    return self.reply(*outer.answer)
                prompt = body.get("prompt")
                if "messages" in body:
                    tokens = lm.tokenizer.encode_chat(body["messages"])
                else:
                    tokens = lm.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
                path = write_handover(folder, lm.engine.imported, tokens)
                self.reply(200, {"choices": [], "kv_transfer_params": {"do_remote_prefill": True, "tailrace_file": path.name}})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


class Stage:
    def __init__(self, prefill: Prefill, decode: Client, proxy: Client, lm: LanguageModel, folder: Path) -> None:
        self.prefill, self.decode, self.proxy, self.lm, self.folder = prefill, decode, proxy, lm, folder


@contextmanager
def proxied(prefill: str, decode: str) -> Iterator[Client]:
    server = uvicorn.Server(uvicorn.Config(Proxy(prefill, decode).app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Client(f"http://127.0.0.1:{port}", None)  # type: ignore[arg-type]
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("handover")
    path = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)
    with tailrace.load(path, context=64, batch=4) as lm, serving(lm, kv_folder=folder, api_keys=("key",)) as decode:
        prefill = Prefill(folder, lm)
        threading.Thread(target=prefill.server.serve_forever, daemon=True).start()
        with proxied(prefill.url, f"http://{decode.host}") as proxy:
            yield Stage(prefill, decode, proxy, lm, folder)
        prefill.server.shutdown()


def expected(stage: Stage, tokens: list[int]) -> str:
    path = write_handover(stage.folder, stage.lm.engine.imported, tokens)
    return stage.lm.load_handover(path).generate(max_tokens=6, logit_bias={2: -1e5}).text


def test_a_completion(stage: Stage) -> None:
    body = {"model": "tiny", "prompt": "abcdxyz", **ENDLESS, "logprobs": 1, "n": 1, "stop": ["never"]}
    status, answer, headers = stage.proxy.ask(COMPLETIONS, body, authorization="Bearer key", x_request_id="mine")
    assert status == 200, answer
    assert answer["choices"][0]["text"] == expected(stage, stage.lm.tokenizer.encode("abcdxyz"))
    assert headers["x-request-id"] == "mine"
    asked, brought = stage.prefill.asked[-1]
    # Its own name of the model, one token, and nothing that shapes the answer.
    assert asked == {
        "model": "meta/llama",
        "prompt": "abcdxyz",
        "temperature": 0,
        "max_tokens": 1,
        "kv_transfer_params": {"do_remote_decode": True, "do_remote_prefill": False},
    }
    assert (brought["authorization"], brought["x-request-id"]) == ("Bearer key", "mine")


def test_a_chat_in_a_stream(stage: Stage) -> None:
    messages = [{"role": "user", "content": "what"}]
    connection = stage.proxy.connect()
    body = {"messages": messages, **ENDLESS, "stream": True, "stream_options": {"include_usage": True}}
    connection.request("POST", CHAT, json.dumps(body), {"authorization": "Bearer key"})
    response = connection.getresponse()
    assert (response.status, response.getheader("content-type")) == (200, "text/event-stream; charset=utf-8")
    events = response.read().decode().split("\n\n")
    connection.close()
    assert events[-2:] == ["data: [DONE]", ""]
    parts = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    text = "".join(choice["delta"].get("content", "") for part in parts for choice in part["choices"])
    assert text == expected(stage, stage.lm.tokenizer.encode_chat(messages))
    assert "stream" not in stage.prefill.asked[-1][0]


def test_whatever_else_is_asked(stage: Stage) -> None:
    assert stage.proxy.ask("/health")[:2] == (200, {"status": "ok", "prefill": 200, "decode": 200})
    assert (
        stage.proxy.ask("/tokenize", {"prompt": "ab"}, authorization="Bearer key")[1]
        == stage.decode.ask("/tokenize", {"prompt": "ab"}, authorization="Bearer key")[1]
    )
    assert [model["id"] for model in stage.proxy.ask("/v1/models", authorization="Bearer key")[1]["data"]] == ["tiny", "other"]


def test_errors_of_both(stage: Stage) -> None:
    assert stage.proxy.ask(COMPLETIONS, {"prompt": "ab"})[0] == 401
    status, answer, _ = stage.proxy.ask(COMPLETIONS, b"{")
    assert (status, answer["error"]["message"][:19]) == (400, "the body is no JSON")
    assert stage.proxy.ask(COMPLETIONS, [])[1]["error"]["message"] == "the body must be a JSON object"
    status, answer, _ = stage.proxy.ask(COMPLETIONS, {"prompt": ["ab", "cd"]})
    assert (status, answer["error"]["message"]) == (
        400,
        "prompt has several prompts, of which one at a time is handed over: send a request for each",
    )
    try:
        stage.prefill.answer = 400, {"error": {"message": "too long"}}
        assert stage.proxy.ask(COMPLETIONS, {"prompt": "ab"})[:2] == (400, {"error": {"message": "too long"}})
        stage.prefill.answer = 200, {"choices": []}
        status, answer, _ = stage.proxy.ask(COMPLETIONS, {"prompt": "ab"})
        assert (status, answer["error"]["message"]) == (
            502,
            f"vLLM at {stage.prefill.url} has not handed the prompt over: start it with TailraceConnector",
        )
    finally:
        stage.prefill.answer = None


def test_servers_that_are_not_there(stage: Stage) -> None:
    nowhere = "http://127.0.0.1:9"
    with proxied(nowhere, nowhere) as proxy:
        assert proxy.ask("/health")[:2] == (503, {"status": "error", "prefill": 503, "decode": 503})
        status, answer, _ = proxy.ask(COMPLETIONS, {"prompt": "ab"})
        assert status == 502
        assert answer["error"]["message"].startswith(f"vLLM at {nowhere} can't be reached (")
    with proxied(stage.prefill.url, nowhere) as proxy:
        status, answer, _ = proxy.ask(COMPLETIONS, {"prompt": "ab"})
        assert status == 502
        assert answer["error"]["message"].startswith(f"tailrace serve at {nowhere} can't be reached (")
