"""OpenAI's own clients: what they ask, read, stream, parse, refuse and try again. Node's among the slow tests."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("openai")
pytest.importorskip("uvicorn")
pytest.importorskip("llguidance")
import openai
from pydantic import BaseModel, Field

import tailrace
from tailrace import LanguageModel
from verification.unit.host.server.client import Client, serving
from verification.unit.host.server.test_server import before_each_step
from verification.unit.host.server.test_tools import TEMPLATE, TOOLS, saying
from verification.unit.host.tiny_models import write_model

QUESTION: Any = [{"role": "user", "content": "ab"}]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    model = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1, chat_template=TEMPLATE, context=1024)
    with tailrace.load(model, context=1024, batch=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(lm: LanguageModel) -> Iterator[Client]:
    with serving(lm, api_keys=("secret",)) as client:
        yield client


@pytest.fixture
def client(server: Client) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"http://{server.host}/v1", api_key="secret", max_retries=0) as client:
        yield client


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "other"]
    assert client.models.retrieve("other").owned_by == "tailrace"


def test_a_chat_whole_and_streamed(client: Any, lm: LanguageModel) -> None:
    options: dict[str, Any] = {"max_completion_tokens": 12, "temperature": 1, "seed": 5, "top_p": 0.9}
    asked: dict[str, Any] = {"model": "tiny", "messages": QUESTION, **options}
    whole = client.chat.completions.create(**asked, n=2, logprobs=True, top_logprobs=3)
    again = client.chat.completions.create(**asked, n=2, logprobs=True, top_logprobs=3)
    assert [choice.message.content for choice in whole.choices] == [choice.message.content for choice in again.choices]
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert again.usage.prompt_tokens_details.cached_tokens == whole.usage.prompt_tokens - 1
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 3
    assert (
        bytes(whole.choices[0].logprobs.content[0].bytes).decode(errors="replace") == whole.choices[0].logprobs.content[0].token
    )
    assert len(whole._request_id) == 32
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens - again.usage.completion_tokens + len(
        whole.choices[0].logprobs.content
    )


def test_completions(client: Any) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "prompt": [[100, 101, 102], [103]],
        "max_tokens": 1,
        "temperature": 0,
        "seed": 1234,
    }
    scored = client.completions.create(**asked, echo=True, logprobs=1)
    assert [len(choice.logprobs.token_logprobs) for choice in scored.choices] == [4, 2]
    assert scored.choices[0].logprobs.token_logprobs[0] is None
    assert scored.choices[0].text.startswith("abc")
    text = client.completions.create(model="tiny", prompt="abc", max_tokens=9, temperature=1, seed=2).choices[0].text
    stream = client.completions.create(model="tiny", prompt="abc", max_tokens=9, temperature=1, seed=2, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == text


class City(BaseModel):
    """What is to be parsed."""

    name: Literal["ab", "cd"]
    size: int = Field(ge=1, le=99)


def test_an_answer_that_is_parsed(client: Any) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "temperature": 1, "seed": 3, "response_format": City}
    parsed = client.chat.completions.parse(**asked).choices[0].message.parsed
    assert isinstance(parsed, City)
    with client.chat.completions.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == parsed
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**asked, max_tokens=3)


def test_tools(client: Any, lm: LanguageModel) -> None:
    """A call, its result, and what is said of it; `stream` puts a call together."""
    asked: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "tools": TOOLS, "temperature": 1, "seed": 3}
    named = {"type": "function", "function": {"name": "add"}}
    whole = client.chat.completions.create(**asked, tool_choice=named)
    (call,) = whole.choices[0].message.tool_calls
    assert (call.function.name, whole.choices[0].finish_reason) == ("add", "tool_calls")
    assert 0 <= json.loads(call.function.arguments)["a"] <= 9
    with client.chat.completions.stream(**asked, tool_choice=named) as stream:
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed.function.arguments == call.function.arguments
    turns = [*QUESTION, whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "8"}]
    with saying(lm, lm.tokenizer.encode("It is 8.", False)):
        assert client.chat.completions.create(**{**asked, "messages": turns}).choices[0].message.content == "It is 8."


def test_errors_have_their_types(client: Any, server: Client) -> None:
    def refused(kind: type[Exception], **fields: Any) -> Any:
        with pytest.raises(kind) as error:
            client.chat.completions.create(**{"model": "tiny", "messages": QUESTION, **fields})
        return error.value

    assert refused(openai.NotFoundError, model="gpt-9").code == "model_not_found"
    assert refused(openai.BadRequestError, temperature=-1).param == "temperature"
    assert refused(openai.BadRequestError, extra_body={"colour": "red"}).param == "colour"
    error = refused(openai.BadRequestError, messages=[{"role": "user", "content": "x" * 2000}])
    assert (error.code, error.type) == ("context_length_exceeded", "exceed_context_size_error")
    assert (error.body["n_ctx"], error.body["n_prompt_tokens"] > 2000) == (1024, True)
    assert "maximum context length is 1024 tokens" in error.message
    assert len(error.request_id) == 32
    with pytest.raises(openai.AuthenticationError) as denied:
        openai.OpenAI(base_url=f"http://{server.host}/v1", api_key="wrong", max_retries=0).models.list()
    assert denied.value.code == "invalid_api_key"


def test_who_is_refused_comes_again(lm: LanguageModel) -> None:
    """429 with Retry-After, which the client obeys; without tries left it is a RateLimitError."""
    go_on = threading.Event()
    with before_each_step(lm, lambda: go_on.wait(0.05)), serving(lm, queue=0) as server:
        base = f"http://{server.host}/v1"
        body = {"prompt": "ab", "max_tokens": 1000, "n": 2, "temperature": 1, "ignore_eos": True, "stream": True}
        connection = server.connect()
        connection.request("POST", "/v1/completions", json.dumps(body))
        response = connection.getresponse()
        with pytest.raises(openai.RateLimitError) as error:
            openai.OpenAI(base_url=base, api_key="x", max_retries=0).completions.create(model="tiny", prompt="ab")
        assert (error.value.code, error.value.response.headers["retry-after"]) == ("queue_full", "1")
        leaving = threading.Timer(0.3, connection.close)
        leaving.start()
        begin = time.monotonic()
        with openai.OpenAI(base_url=base, api_key="x", max_retries=5) as patient:
            answer = patient.completions.create(model="tiny", prompt="ab", max_tokens=1, temperature=1)
        go_on.set()
        leaving.join()
        response.close()
    assert time.monotonic() - begin > 0.5
    assert answer.choices[0].finish_reason in ("length", "stop")


def test_who_hangs_up_frees_the_sequence(lm: LanguageModel) -> None:
    with before_each_step(lm, lambda: time.sleep(0.02)), serving(lm) as server:
        with openai.OpenAI(base_url=f"http://{server.host}/v1", api_key="x", max_retries=0) as client:
            with client.chat.completions.create(
                model="tiny", messages=QUESTION, temperature=1, stream=True, extra_body={"ignore_eos": True}
            ) as stream:
                next(iter(stream))
            deadline = time.monotonic() + 20
            while server.server.scheduler.load.running:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert server.server.scheduler.load.cancelled == 1


NODE = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "secret", maxRetries: 0 });
const asked = { model: "tiny", messages: [{ role: "user", content: "ab" }], max_tokens: 8, temperature: 1, seed: 3 };
const whole = await client.chat.completions.create(asked);
let text = "";
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
const models = (await client.models.list()).data.map(model => model.id);
const error = await client.chat.completions.create({ ...asked, model: "gpt-9" }).catch(error => error);
console.log(JSON.stringify({ text, said: whole.choices[0].message.content, models, code: error.code, status: error.status, id: whole._request_id }));
"""


@pytest.mark.slow
def test_node(server: Client, tmp_path: Path) -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    fetched = subprocess.run(["npm", "install", "--silent", "openai@7.59.0"], cwd=tmp_path, capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"npm can't fetch openai: {fetched.stderr.strip()[-200:]}")
    (tmp_path / "ask.mjs").write_text(NODE)
    done = subprocess.run(
        ["node", "ask.mjs", f"http://{server.host}/v1"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["text"] == told["said"]
    assert (told["models"], told["code"], told["status"], len(told["id"])) == (["tiny", "other"], "model_not_found", 404, 32)
