"""`transformers serve` of a folder that was exported: its answers are the device's."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tailrace

for name in ("torch", "transformers", "accelerate"):
    pytest.importorskip(name)
for name in ("fastapi", "uvicorn"):
    pytest.importorskip(name, reason='transformers serve needs it: pip install "transformers[serving]"')

pytestmark = pytest.mark.slow

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
_START = "from transformers.cli.transformers import main; main()"
#: Seconds for loading and for an answer.
_PATIENCE = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a server of SmolLM2, and its folder."""
    from tailrace.export.hugging_face import export_model
    from tailrace.models.fetch import resolve_model

    place = tmp_path_factory.mktemp("serve")
    folder = place / "smollm2"
    export_model(resolve_model("smollm2"), folder)
    (place / "home" / "hub").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _START, "serve", str(folder), "--trust-remote-code", "--device", "cpu"]
    settings = {**os.environ, "HF_HOME": str(place / "home"), "HF_HUB_OFFLINE": "1"}
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=subprocess.STDOUT, env=settings
        )
        try:
            url = f"http://127.0.0.1:{port}"
            end = time.monotonic() + _PATIENCE
            while not _answers(url):
                assert process.poll() is None, (place / "log").read_text()
                assert time.monotonic() < end, (place / "log").read_text()
                time.sleep(0.5)
            yield url, folder
        finally:
            process.terminate()
            process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _ask(url: str, **body: Any) -> bytes:
    data = json.dumps({"messages": MESSAGES, "max_tokens": 8, "temperature": 0, **body}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
        return bytes(answer.read())


def test_it_answers_with_the_devices_tokens(server: tuple[str, Path]) -> None:
    """Whole and as a stream: the text that the device chooses after its own prefill, where nothing is close."""
    url, folder = server
    with tailrace.load("smollm2", context=128) as lm:
        expected = lm.chat(MESSAGES, max_tokens=8).text
    assert expected == "The capital of France is Paris."
    whole = json.loads(_ask(url, model=str(folder)))
    assert whole["choices"][0]["message"]["content"] == expected
    lines = _ask(url, model=str(folder), stream=True).decode().splitlines()
    pieces = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces if piece["choices"]) == expected
