"""vLLM itself hands prompts over: its CPU build, in an environment of its own whose Python is named by TAILRACE_VLLM_PYTHON.

``TAILRACE_VLLM_PYTHON=.../bin/python pytest -m slow verification/system/test_vllm.py -s`` prints the figures of docs/vllm.md.
"""

import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

import torch
import transformers

import tailrace
from tailrace.generation.handover import read_handover
from tailrace.huggingface.internals import cache_of
from tailrace.models.fetch import resolve_model
from tailrace.spec import handover as contract
from verification.packages import ROOT
from verification.unit.host.generation.handover_files import write_handover
from verification.unit.host.server.client import Client, serving
from verification.unit.host.transformers_models import make_model
from verification.unit.host.vllm.test_proxy import proxied

PYTHON = os.environ.get("TAILRACE_VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="needs vLLM in an environment of its own: set TAILRACE_VLLM_PYTHON to its Python"),
]
#: What vLLM's CPU build wants, and nothing from the network.
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT / "src"),
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
}
#: Seconds until vLLM answers, on a machine that does other things as well.
PATIENCE = 900


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A random llama: the file, the folder of the same model, and the model."""
    folder = tmp_path_factory.mktemp("tiny")
    model = make_model(folder / "tiny.gguf", "llama", layers=3, context=256)
    model.save_pretrained(folder / "model")
    return folder / "tiny.gguf", folder / "model", model


def transformers_layers(model: Any, prompt: list[int]) -> dict[str, Any]:
    """Keys and values of a prompt as Hugging Face computes them, named as in a file."""
    with torch.no_grad():
        layers = cache_of(model(torch.tensor([prompt]))).layers
    return {
        name: part[0].contiguous()
        for n, layer in enumerate(layers)
        for name, part in zip(contract.tensor_names(n), (layer.keys, layer.values), strict=True)
    }


def test_a_random_model_in_one_process(tiny: tuple[Path, Path, Any], tmp_path: Path) -> None:
    """Chunks, several requests at once, a prefix that vLLM has in its cache: keys and values are Hugging Face's but for rounding,
    and what follows is what follows Hugging Face's prefill.
    """
    from safetensors.torch import load_file

    file, folder, model = tiny
    random = np.random.default_rng(1)
    prompts = [random.integers(3, 300, n).tolist() for n in (33, 70, 130, 200)]
    prompts.append(prompts[-1][:150] + [7, 8, 9])
    command = [PYTHON, str(Path(__file__).with_name("vllm_prompts.py")), str(folder), str(tmp_path / "handover")]
    done = subprocess.run(
        command, input=json.dumps([prompts, prompts[-2:]]), text=True, capture_output=True, env=ENVIRONMENT, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answers = json.loads((tmp_path / "handover" / "answers.json").read_text())
    assert [answer[2] for answer in answers[-2:]] == [128, 128]
    same = 0
    with tailrace.load(file, context=256) as lm:
        for prompt, vllm_tokens, _, params in answers:
            path = tmp_path / "handover" / params[contract.FILE]
            assert (params[contract.COUNT], params[contract.NEXT]) == (len(prompt), vllm_tokens[0])
            expected = transformers_layers(model, prompt)
            given = load_file(path)
            assert given[contract.TOKENS].tolist() == prompt
            for name, part in expected.items():
                assert (given[name] - part).abs().max() <= 2e-5 * part.abs().max()
            own = write_handover(tmp_path / "transformers", lm.engine.imported, prompt, expected)
            options: Any = {"max_tokens": 12, "logit_bias": {2: -1e5}}
            found = lm.load_handover(path).generate(**options)
            assert found.tokens == lm.load_handover(own).generate(**options).tokens
            assert found.reused_tokens == len(prompt) - 1
            same += list(found.tokens) == vllm_tokens
    print(f"\n{same} of {len(answers)} answers are vLLM's own, token by token")
    # 8 bits of the cache may decide between two tokens that are as likely.
    assert same >= len(answers) - 2


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file, and a folder with the same weights as plain numbers."""
    file = resolve_model("smollm2", None)
    folder = tmp_path_factory.mktemp("smollm2")
    opened = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    config = opened.config.to_dict()
    for name in ("quantization_config", "dtype", "torch_dtype", "architectures"):
        config.pop(name, None)
    plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).float()
    plain.load_state_dict(opened.state_dict(), strict=False)
    plain.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    return file, folder


class Stage:
    def __init__(self, lm: Any, vllm: Client, decode: Client, proxy: Client, folder: Path, log: Path) -> None:
        self.lm, self.vllm, self.decode, self.proxy, self.folder, self.log = lm, vllm, decode, proxy, folder, log


@pytest.fixture(scope="module")
def stage(smollm2: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """``vllm serve``, the server, and the proxy before both."""
    file, folder = smollm2
    handover, log = tmp_path_factory.mktemp("handover"), tmp_path_factory.mktemp("log") / "vllm.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    transfer = {
        "kv_connector": "TailraceConnector",
        "kv_connector_module_path": "tailrace.vllm.connector",
        "kv_role": "kv_producer",
        "kv_connector_extra_config": {"folder": str(handover)},
    }
    command = [
        PYTHON, "-m", "vllm.entrypoints.cli.main", "serve", str(folder), "--port", str(port), "--host", "127.0.0.1", "--dtype", "float32",
        "--max-model-len", "512", "--enforce-eager", "--max-num-seqs", "4", "--served-model-name", "smollm2",
        "--kv-transfer-config", json.dumps(transfer),
    ]  # fmt: skip
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=ENVIRONMENT)
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
        while not _answers(f"{url}/health"):
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(1)
        with tailrace.load(file, context=512, batch=4) as lm, serving(lm, kv_folder=handover) as decode:
            with proxied(url, f"http://{decode.host}") as proxy:
                clients = (PatientClient(one, decode.server) for one in (url, f"http://{decode.host}", f"http://{proxy.host}"))
                yield Stage(lm, *clients, handover, log)
    finally:
        process.terminate()
        process.wait(60)


class PatientClient(Client):
    """Waits as long as a machine takes that does other things as well, and says that bodies are JSON, as vLLM wants it."""

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, timeout=PATIENCE)

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        return super().ask(path, body, content_type="application/json", **headers)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False


QUESTIONS = ("What is the capital of France?", "Name three rivers.", "Write a sentence about the sea.", "What is 2 + 2?")


def chat(question: str, tokens: int = 16) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "max_tokens": tokens, "temperature": 0}


#: Log probabilities that two tokens may be apart for the 8 bits of the cache to choose the other one.
NEAR = 0.25


def check_near(own: dict[str, Any], said: str) -> None:
    """A text is vLLM's, up to a token at which another one is as good for vLLM."""
    text, steps = "", own["logprobs"]["content"]
    for step in steps:
        if said == text and step is steps[-1]:
            # The token that ends the answer has no text.
            return
        if said.startswith(text + step["token"]):
            text += step["token"]
            continue
        others = [other["logprob"] for other in step["top_logprobs"] if said.startswith(text + other["token"])]
        apart = step["logprob"] - max(others, default=float("-inf"))
        print(f"  another token after {text!r}: {apart:.3f} nats less likely")
        assert apart < NEAR
        return
    assert said == text


def test_what_vllm_says_is_continued_here(stage: Stage) -> None:
    """By hand, as with curl: one token from vLLM, and then the same request with what it answered; and through the proxy."""
    whole = 0
    for question in QUESTIONS:
        body = chat(question)
        choice = stage.vllm.ask("/v1/chat/completions", {**body, "logprobs": True, "top_logprobs": 5})[1]["choices"][0]
        own = choice["message"]["content"]
        asked = {**body, "max_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
        params = stage.vllm.ask("/v1/chat/completions", asked)[1]["kv_transfer_params"]
        answer = stage.decode.ask("/v1/chat/completions", {**body, "kv_transfer_params": params})[1]
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == answer["usage"]["prompt_tokens"] - 1
        said = answer["choices"][0]["message"]["content"]
        proxied_text = stage.proxy.ask("/v1/chat/completions", body)[1]["choices"][0]["message"]["content"]
        print(f"\n{question}\n  vLLM alone: {own!r}\n  continued:  {said!r}")
        assert said == proxied_text
        check_near(choice, said)
        whole += said == own
    assert whole >= len(QUESTIONS) - 1
    assert not list(stage.folder.iterdir())


def test_tokens_equal_those_after_hugging_face_s_prefill(stage: Stage, smollm2: tuple[Path, Path], tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2[1], dtype=torch.float32)
    tokens = stage.lm.tokenizer.encode_chat([{"role": "user", "content": QUESTIONS[0]}])
    own = write_handover(tmp_path, stage.lm.engine.imported, tokens, transformers_layers(model, tokens))
    expected = stage.lm.load_handover(own).generate(max_tokens=16)
    asked = {"prompt": tokens, "max_tokens": 1, "temperature": 0, "kv_transfer_params": {"do_remote_decode": True}}
    params = stage.vllm.ask("/v1/completions", asked)[1]["kv_transfer_params"]
    sampling = {"temperature": 0, "max_tokens": 16}
    answer = stage.decode.ask("/inference/v1/generate", {"sampling_params": sampling, "kv_transfer_params": params})[1]
    assert answer["choices"][0]["token_ids"] == list(expected.tokens)


def test_several_at_once_through_the_proxy_in_streams(stage: Stage) -> None:
    expected = [
        stage.proxy.ask("/v1/chat/completions", chat(question, 12))[1]["choices"][0]["message"]["content"]
        for question in QUESTIONS
    ]
    found: list[str] = [""] * 8

    def one(n: int) -> None:
        for part in stage.proxy.stream("/v1/chat/completions", chat(QUESTIONS[n % 4], 12)):
            for choice in part["choices"]:
                found[n] += choice["delta"].get("content", "")

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected * 2


def test_a_client_that_leaves_vllm(stage: Stage) -> None:
    """Its prompt is given up, in whatever state it is, and leaves nothing behind."""
    connection = stage.vllm.connect()
    body = {
        "prompt": list(range(100, 500)),
        "max_tokens": 100,
        "temperature": 0,
        "kv_transfer_params": {"do_remote_decode": True},
    }
    connection.request(
        "POST", "/v1/completions", json.dumps({**body, "model": "smollm2"}), {"content-type": "application/json"}
    )
    time.sleep(0.5)
    connection.close()
    deadline = time.monotonic() + PATIENCE
    while list(stage.folder.iterdir()) or _running(stage):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _running(stage: Stage) -> bool:
    text = str(stage.vllm.ask("/metrics")[1])
    return any(float(value) > 0 for value in re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)$", text, re.M))


def test_the_time_of_a_hand_over(stage: Stage) -> None:
    """Figures, no promise."""
    rows = []
    for count in (32, 128, 480):
        body = {"prompt": list(range(100, 100 + count)), "max_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
        name = stage.vllm.ask("/v1/completions", body)[1]["kv_transfer_params"][contract.FILE]
        path, times = stage.folder / name, []
        for _ in range(3):
            start = time.process_time()
            read_handover(path, stage.lm.engine.imported)
            times.append(time.process_time() - start)
        rows.append((count, path.stat().st_size, sorted(times)[1]))
        path.unlink()
    written = [
        (int(n), float(ms))
        for n, ms in re.findall(r"handed over (\d+) tokens, \d+ bytes, in ([\d.]+) ms", stage.log.read_text())
    ]
    print("\n| tokens | bytes | a token | written by vLLM, ms | read and quantised, ms of CPU |\n|---:|---:|---:|---:|---:|")
    for count, size, seconds in rows:
        best = min(ms for n, ms in written if n == count)
        print(f"| {count} | {size:,} | {size // count:,} | {best:.1f} | {1000 * seconds:.1f} |")
