"""The catalogue of clients, and the questions that servers are compared by, asked of a server with a small model."""

import re
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

import tailrace
from verification.clients.catalogue import CLIENTS, PROGRAMS, Stage
from verification.clients.compare import QUESTIONS, Asked, compare
from verification.clients.environments import is_ready
from verification.unit.host.server.client import serving
from verification.unit.host.tiny_models import write_model


def test_every_client_is_pinned_and_can_be_asked(tmp_path: Path) -> None:
    stage = Stage("http://here", "tiny", Path("tokenizer"), Path("hub"), "http://book", tmp_path)
    for name, client in CLIENTS.items():
        assert all(re.search(r"[^=@]+(==|@)\d", package) for package in client.packages), name
        assert bool(client.program) != (client.command is not None), name
        if client.program:
            assert (PROGRAMS / client.program).is_file()
        else:
            assert client.command is not None
            assert any("http://here" in argument for argument in client.command(stage))
            assert re.compile(client.shows).pattern == client.shows


def test_an_environment_in_another_version_is_set_up_anew(tmp_path: Path) -> None:
    mark = tmp_path / "litellm" / "ready"
    assert not is_ready(tmp_path, "litellm")
    mark.parent.mkdir()
    mark.write_text("litellm==0.1")
    assert not is_ready(tmp_path, "litellm")
    mark.write_text("\n".join(CLIENTS["litellm"].packages))
    assert is_ready(tmp_path, "litellm")


def test_questions_to_servers(tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.gguf", layers=1)
    with tailrace.load(model, context=64, batch=2) as lm, serving(lm) as client:
        rows = compare({"tailrace": Asked(f"http://{client.host}")})
    answers = dict(rows)
    assert set(answers) == set(QUESTIONS)
    assert answers["unknown field"] == "400 `invalid_request_error`, code `unknown_parameter`, param `colour`"
    assert answers["unknown model"] == "404 `invalid_request_error`, code `model_not_found`, param `model`"
    assert answers["`GET` of a chat"].startswith("405 ")
    assert answers["stream with `include_usage`"].startswith("role, ")
    assert answers["stream with `include_usage`"].endswith("finish_reason, usage (no choices), [DONE]")
    assert answers["`n: 2`"] == "2 answers"
    assert answers["seeds"].startswith("the same seed: the same answer")
    assert answers["text, `echo` and `logprobs`"].startswith("`token_logprobs`, ")
    assert answers["`x-request-id` of an answer"] == "yes"
    assert "no answer that can be read" not in "".join(answers.values())
