"""The same request has the same bits over HTTP, alone or in a full batch, on every device."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import tailrace
from verification.unit.host.server.client import Client, serving
from verification.unit.host.tiny_models import write_model

#: Drawn and not, with log probabilities, which show every bit; of different lengths, and more than there are sequences.
BODIES: list[dict[str, Any]] = [
    {"prompt": "abcd" * (1 + n % 3) + "xyz"[n % 3 :], "max_tokens": 3 + n % 4, "logprobs": 2, "ignore_eos": True, "seed": n}
    | {"temperature": n % 2, "presence_penalty": n % 3}
    for n in range(7)
]  # fmt: skip


def answers(client: Client, together: bool) -> list[Any]:
    found: list[Any] = [None] * len(BODIES)

    def one(n: int) -> None:
        status, answer, _ = client.ask("/v1/completions", BODIES[n])
        assert status == 200
        found[n] = answer["choices"]

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(BODIES))]
    for thread in threads:
        thread.start()
        if not together:
            thread.join()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)


@pytest.fixture(scope="module")
def expected(model: Path) -> list[Any]:
    """From a device with one sequence."""
    with tailrace.load(model, "golden", context=64) as lm, serving(lm) as client:
        return answers(client, together=False)


def compare(model: Path, expected: list[Any], ask: Callable[[Client], list[Any]], device: str, batch: int) -> None:
    with tailrace.load(model, device, context=64, batch=batch) as lm, serving(lm) as client:
        assert ask(client) == expected


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("batch", [2, 4])
@pytest.mark.parametrize("device", ["golden", "emulator"])
def test_alone_and_in_a_full_batch(model: Path, expected: list[Any], device: str, batch: int, together: bool) -> None:
    compare(model, expected, lambda client: answers(client, together), device, batch)


@pytest.mark.slow
def test_on_the_gateware(model: Path, expected: list[Any]) -> None:
    pytest.importorskip("amaranth")
    compare(model, expected, lambda client: answers(client, together=True), "verilator", 4)
