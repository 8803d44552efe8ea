"""Prompts that were computed elsewhere, over HTTP: taken from the folder, each answer's own, and refused with a reason."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("torch")
pytest.importorskip("safetensors")

import tailrace
from tailrace import LanguageModel
from tailrace.spec import handover as contract
from verification.unit.host.generation.handover_files import write_handover
from verification.unit.host.server.client import Client, serving
from verification.unit.host.tiny_models import write_model

CHAT, COMPLETIONS, GENERATE = "/v1/chat/completions", "/v1/completions", "/inference/v1/generate"
ENDLESS: dict[str, Any] = {"logit_bias": {"2": -1e5}, "temperature": 0, "max_tokens": 6}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    with tailrace.load(write_model(tmp_path_factory.mktemp("models") / "tiny.gguf"), context=64, batch=4) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("handover")


@pytest.fixture(scope="module")
def client(lm: LanguageModel, folder: Path) -> Iterator[Client]:
    with serving(lm, kv_folder=folder) as client:
        yield client


def handed(folder: Path, lm: LanguageModel, tokens: list[int], prefill: int = 1) -> dict[str, Any]:
    """What a prefill answers; another one has other numbers in the layers that nobody checks."""
    return {contract.FILE: write_handover(folder, lm.engine.imported, tokens, seed=prefill).name}


def expected(folder: Path, lm: LanguageModel, tokens: list[int], prefill: int = 1, **options: Any) -> Any:
    path = write_handover(folder, lm.engine.imported, tokens, seed=prefill)
    given: Any = {"max_tokens": 6, "logit_bias": {2: -1e5}, **options}
    found = lm.load_handover(path).generate(**given)
    path.unlink()
    return found


def ask(client: Client, path: str, **body: Any) -> Any:
    status, answer, _ = client.ask(path, body)
    assert status == 200, answer
    return answer


def test_a_completion_and_a_chat(client: Client, folder: Path, lm: LanguageModel) -> None:
    tokens = lm.tokenizer.encode("abcdxyz and more")
    answer = expected(folder, lm, tokens)
    assert answer.text != lm.generate(tokens, max_tokens=6, logit_bias={2: -1e5}).text
    for body in ({"prompt": "abcdxyz and more"}, {"prompt": tokens}, {}):
        params = handed(folder, lm, tokens)
        found = ask(
            client,
            COMPLETIONS,
            **body,
            **ENDLESS,
            kv_transfer_params={**params, "do_remote_prefill": True, "remote_host": None},
        )
        assert found["choices"][0]["text"] == answer.text
        assert found["usage"]["prompt_tokens_details"]["cached_tokens"] == len(tokens) - 1
        # It is used, and gone.
        assert not (folder / params[contract.FILE]).exists()
    messages = [{"role": "user", "content": "what is it"}]
    tokens = lm.tokenizer.encode_chat(messages)
    found = ask(client, CHAT, messages=messages, **ENDLESS, kv_transfer_params=handed(folder, lm, tokens))
    assert found["choices"][0]["message"]["content"] == expected(folder, lm, tokens).text


def test_several_answers_and_a_stream(client: Client, folder: Path, lm: LanguageModel) -> None:
    tokens = lm.tokenizer.encode("abcd")
    body = {**ENDLESS, "prompt": tokens, "n": 3, "temperature": 1.0, "seed": 5}
    whole = ask(client, COMPLETIONS, **body, kv_transfer_params=handed(folder, lm, tokens))
    parts = client.stream(COMPLETIONS, {**body, "kv_transfer_params": handed(folder, lm, tokens)})
    texts = ["", "", ""]
    for part in parts:
        for choice in part["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]
    assert texts[1] == expected(folder, lm, tokens, temperature=1.0, seed=6).text


def test_a_prompt_that_goes_on(client: Client, folder: Path, lm: LanguageModel) -> None:
    """The file holds its beginning: such as without the token that the prefill chose."""
    tokens = lm.tokenizer.encode("abcd")
    found = ask(client, COMPLETIONS, prompt=[*tokens, 9, 8], **ENDLESS, kv_transfer_params=handed(folder, lm, tokens))
    assert found["usage"]["prompt_tokens_details"]["cached_tokens"] == len(tokens)
    session = lm.load_handover(write_handover(folder, lm.engine.imported, tokens))
    assert found["choices"][0]["text"] == session.generate([9, 8], max_tokens=6, logit_bias={2: -1e5}).text


def test_among_others_nobody_has_other_bits(client: Client, folder: Path, lm: LanguageModel) -> None:
    """Twelve at once on four sequences, handed over by two prefills that differ, and computed here."""
    tokens = lm.tokenizer.encode("abcdabcd")
    texts = [expected(folder, lm, tokens, 1).text, expected(folder, lm, tokens, 2).text]
    texts.append(lm.generate(tokens, max_tokens=6, logit_bias={2: -1e5}).text)
    assert len(set(texts)) == 3
    found: list[Any] = [None] * 12

    def one(n: int) -> None:
        more = {} if n % 3 == 2 else {"kv_transfer_params": handed(folder, lm, tokens, n % 3 + 1)}
        found[n] = ask(client, COMPLETIONS, prompt=tokens, **ENDLESS, **more)["choices"][0]["text"]

    threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == texts * 4


def test_who_is_turned_away_may_come_again(folder: Path, lm: LanguageModel) -> None:
    tokens = lm.tokenizer.encode("abcd")
    params = handed(folder, lm, tokens)
    with serving(lm, kv_folder=folder, queue=0) as client:
        assert client.ask(COMPLETIONS, {"prompt": tokens, "n": 5, "kv_transfer_params": params})[0] == 429
        assert client.ask(COMPLETIONS, {"prompt": tokens, "max_tokens": 1, "kv_transfer_params": params})[0] == 200
        status, error, _ = client.ask(COMPLETIONS, {"prompt": tokens, "kv_transfer_params": params})
        assert status == 400
        assert "it may have been used, or swept away; compute the prompt again" in error["error"]["message"]


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ("x", "invalid_value", "kv_transfer_params must be an object, not 'x'"),
        ({}, "invalid_value", "kv_transfer_params must have the name of a hand-over file as tailrace_file, as vLLM's answer has it, not None"),
        ({"tailrace_file": "../secret.safetensors"}, "invalid_value", "kv_transfer_params must have the name of a hand-over file as tailrace_file, as vLLM's answer has it, not '../secret.safetensors'"),
        ({"tailrace_file": "/etc/passwd"}, "invalid_value", "kv_transfer_params must have the name of a hand-over file as tailrace_file, as vLLM's answer has it, not '/etc/passwd'"),
        ({"tailrace_refused": "it uses the LoRA adapter 'x'"}, "kv_transfer_failed", "kv_transfer_params brings no prompt, because the prefill did not hand it over: it uses the LoRA adapter 'x'"),
        ({"do_remote_decode": True}, "unsupported_parameter", "kv_transfer_params asks for a prefill (do_remote_decode), and this server decodes: ask vLLM first"),
    ],
)  # fmt: skip
def test_what_is_refused(client: Client, params: Any, code: str, text: str) -> None:
    for path, body in ((COMPLETIONS, {"prompt": "ab"}), (GENERATE, {"token_ids": [5], "sampling_params": {}})):
        status, answer, _ = client.ask(path, {**body, "kv_transfer_params": params})
        error = answer["error"]
        assert (status, error["code"], error["param"], error["message"]) == (400, code, "kv_transfer_params", text)


def test_another_prompt_is_refused(client: Client, folder: Path, lm: LanguageModel) -> None:
    tokens = lm.tokenizer.encode("abcdxyz")
    params = handed(folder, lm, tokens)

    def message(**body: Any) -> str:
        status, answer, _ = client.ask(COMPLETIONS, {**body, "kv_transfer_params": params})
        assert status == 400
        return str(answer["error"]["message"])

    assert message(prompt=[*tokens[:3], 7]) == (
        f"kv_transfer_params holds a prompt of {len(tokens)} tokens, and the request's of 4 tokens differs from it at token 3: send the"
        " same prompt (as a list of tokens, if the two servers' tokenizers or templates differ)"
    )
    assert "differs from it at token 2" in message(prompt=tokens[:2])
    assert message(prompt=[tokens, tokens]) == (
        "kv_transfer_params holds one prompt, and 2 were given: send one request for each"
    )
    assert message(prompt=tokens, echo=True, logprobs=1) == (
        "kv_transfer_params can't go with echo and logprobs: the prompt would have to be computed again"
    )
    # Nothing of it has used the file up.
    assert ask(client, COMPLETIONS, prompt=tokens, max_tokens=1, kv_transfer_params=params)


def test_links_are_not_followed(client: Client, folder: Path, lm: LanguageModel, tmp_path: Path) -> None:
    path = write_handover(tmp_path, lm.engine.imported, [5, 6, 7])
    (folder / path.name).symlink_to(path)
    status, answer, _ = client.ask(COMPLETIONS, {"prompt": [5, 6, 7], "kv_transfer_params": {contract.FILE: path.name}})
    assert (status, answer["error"]["message"]) == (
        400,
        f"kv_transfer_params leads to {path.name}, which is a link: only files in the folder are read",
    )


def test_a_server_without_a_folder(lm: LanguageModel) -> None:
    with serving(lm) as client:
        status, answer, _ = client.ask(
            COMPLETIONS, {"prompt": "ab", "kv_transfer_params": {contract.FILE: contract.new_name()}}
        )
        assert (status, answer["error"]["message"]) == (
            400,
            "kv_transfer_params is not taken by this server: start it with --kv-folder",
        )
        assert client.ask(COMPLETIONS, {"prompt": "ab", "max_tokens": 1, "kv_transfer_params": None})[0] == 200
