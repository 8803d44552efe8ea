"""What a server says of itself: sequences, tokenizer, prompts, times and counts, as llama-server and vLLM say it."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import tailrace
from tailrace import LanguageModel
from tailrace.generation.depth import Costs
from tailrace.generation.engine_draft import EngineDraft
from tailrace.image.predicted import predict_step
from tailrace.image.predicted_cycles import PredictedCycles
from tailrace.server.histogram import BOUNDS, Histogram
from tailrace.transports.facts import config_of
from verification.unit.host.generation.draft_models import Fixed
from verification.unit.host.server.client import Client, serving
from verification.unit.host.tiny_models import CHAT_TEMPLATE, write_model

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ENDLESS: dict[str, Any] = {"ignore_eos": True}
GREEDY: dict[str, Any] = {"temperature": 0, **ENDLESS}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    model = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)
    with tailrace.load(model, context=64, batch=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(lm: LanguageModel) -> Iterator[Client]:
    with serving(lm) as client:
        yield client


def metrics(client: Client) -> dict[str, float]:
    lines = client.ask("/metrics")[1].splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {
        name.replace('model_name="tiny"', "").replace("{,", "{").replace("{}", ""): float(value)
        for name, value in values.items()
    }


def test_prompts_and_tokenizer(client: Client, lm: LanguageModel) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "ab<|im_end|>"}]}]
    assert client.ask("/apply-template", {"messages": messages})[1] == {"prompt": "ab<|im_end|>>"}
    plain = {"messages": messages, "add_generation_prompt": False}
    assert client.ask("/apply-template", plain)[1] == {"prompt": "ab<|im_end|>"}
    assert client.ask("/tokenize", plain)[1]["tokens"] == lm.tokenizer.encode_chat(
        [{"role": "user", "content": "ab<|im_end|>"}], add_generation_prompt=False
    )
    told = client.ask("/tokenizer_info")[1]
    assert (told["bos_token"], told["eos_token"], told["pad_token"]) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    assert (told["chat_template"], told["add_bos_token"]) == (CHAT_TEMPLATE, False)
    assert client.ask("/version")[1] == {"version": tailrace.__version__}
    assert client.ask("/props")[1]["build_info"] == f"tailrace {tailrace.__version__}"


@pytest.mark.parametrize(
    "path", ["/health", "/v1/models", "/v1/models/tiny", "/metrics", "/props", "/slots", "/version", "/tokenizer_info"]
)
def test_heads_are_answered_where_gets_are(client: Client, path: str) -> None:
    connection = client.connect()
    connection.request("HEAD", path)
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"")
    connection.close()


def test_sequences(client: Client) -> None:
    free = {"n_ctx": 64, "speculative": True, "is_processing": False}
    assert client.ask("/slots")[1] == [{"id": 0, **free}, {"id": 1, **free}]
    gate = threading.Event()
    decoder, take = client.server.engine.decoder, client.server.engine.decoder.take
    decoder.take = lambda *given: (gate.wait(20), take(*given))[1]  # type: ignore[method-assign]
    body = {"prompt": "ab", "max_tokens": 9, "n": 2, "temperature": 0.5, "seed": 3, **ENDLESS}
    asking = threading.Thread(target=client.ask, args=(COMPLETIONS, body))
    asking.start()
    try:
        deadline = time.monotonic() + 20
        while sum(slot["is_processing"] for slot in client.ask("/slots")[1]) < 2:
            assert time.monotonic() < deadline
        slots = client.ask("/slots")[1]
        assert [slot["params"]["seed"] for slot in sorted(slots, key=lambda slot: slot["params"]["seed"])] == [3, 4]
        assert slots[0]["next_token"] == {"has_next_token": True, "n_remain": 9, "n_decoded": 0}
        assert (slots[0]["n_prompt_tokens"], slots[0]["params"]["temperature"]) == (1, 0.5)
        status, answer, _ = client.ask("/slots?fail_on_no_slot=1")
        assert (status, answer["error"]["message"]) == (503, "no sequence is free: try again in a moment")
    finally:
        gate.set()
        asking.join()
        decoder.take = take  # type: ignore[method-assign]
    assert client.ask("/slots?fail_on_no_slot=1")[0] == 200


@pytest.mark.parametrize("stream", [False, True])
def test_times_of_an_answer(client: Client, stream: bool) -> None:
    body = {"prompt": f"abcdxyz{stream}", "max_tokens": 5, "temperature": 1, **ENDLESS}
    timings = client.stream(COMPLETIONS, body)[-1]["timings"] if stream else client.ask(COMPLETIONS, body)[1]["timings"]
    assert (timings["prompt_n"] + timings["cache_n"], timings["predicted_n"]) == (len(body["prompt"]) - 2, 5)
    for name in ("prompt", "predicted"):
        number, time_taken = timings[f"{name}_n"], timings[f"{name}_ms"]
        assert time_taken > 0
        assert timings[f"{name}_per_token_ms"] == pytest.approx(time_taken / number)
        assert timings[f"{name}_per_second"] == pytest.approx(1e3 * number / time_taken)


def test_counts(client: Client) -> None:
    before = metrics(client)
    assert client.ask(COMPLETIONS, {"prompt": ["ab", "xyz"], "max_tokens": 6, "temperature": 1, **ENDLESS})[0] == 200
    after = metrics(client)
    new = {name: after[name] - before[name] for name in after}
    assert new["vllm:prompt_tokens_total"] == new["vllm:prefix_cache_queries_total"] == 4
    assert new["vllm:generation_tokens_total"] == new["llamacpp:tokens_predicted_total"] == 12
    assert new['vllm:request_success_total{finished_reason="length"}'] == new["tailrace:answers_finished_total"] == 2
    assert new['vllm:request_success_total{finished_reason="stop"}'] == 0
    for name in (
        "request_queue_time",
        "time_to_first_token",
        "e2e_request_latency",
        "request_prefill_time",
        "request_decode_time",
    ):
        assert new[f"vllm:{name}_seconds_count"] == new[f'vllm:{name}_seconds_bucket{{le="+Inf"}}'] == 2
    assert new["vllm:inter_token_latency_seconds_count"] == 10
    assert after["llamacpp:n_busy_slots_per_decode"] <= 2
    whole = new["vllm:e2e_request_latency_seconds_sum"]
    parts = [new[f"vllm:request_{name}_time_seconds_sum"] for name in ("queue", "prefill", "decode")]
    assert sum(parts) == pytest.approx(whole)
    assert new["vllm:inter_token_latency_seconds_sum"] == pytest.approx(parts[2])
    assert new["llamacpp:prompt_seconds_total"] > 0
    assert new["llamacpp:tokens_predicted_seconds_total"] > 0


def test_drafts_are_counted(lm: LanguageModel, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """In metrics, times and usage, by the names of vLLM, llama-server and OpenAI; the answer is the one without drafts."""

    class Free(Costs):
        def of(self, rows: int) -> float:
            return 1.0

    monkeypatch.setattr(lm.engine, "costs", Free())
    body = {"prompt": "abababab", "max_tokens": 30, **GREEDY}
    plain = client.ask(COMPLETIONS, {**body, "speculative.n_max": 0})[1]
    assert "draft_n" not in plain["timings"]
    assert "completion_tokens_details" not in plain["usage"]
    before = metrics(client)
    found = client.ask(COMPLETIONS, body)[1]
    assert found["choices"] == plain["choices"]
    after = metrics(client)
    names = ("drafts", "draft_tokens", "accepted_tokens")
    drafts, drafted, accepted = (
        after[f"vllm:spec_decode_num_{n}_total"] - before[f"vllm:spec_decode_num_{n}_total"] for n in names
    )
    assert (found["timings"]["draft_n"], found["timings"]["draft_n_accepted"]) == (drafted, accepted)
    assert 0 < drafts <= drafted >= accepted > 0
    # What the answer is, told before, is drafted from the first token on.
    told = {**body, "prompt": "b", "speculative.n_max": 0}
    answer = client.ask(COMPLETIONS, told)[1]["choices"][0]["text"]
    told |= {"prediction": {"type": "content", "content": f"b{answer}"}, "speculative.n_max": 3}
    found = client.ask(COMPLETIONS, told)[1]
    assert found["choices"][0]["text"] == answer
    details = found["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] > 0 <= details["rejected_prediction_tokens"]
    assert details["accepted_prediction_tokens"] == found["timings"]["draft_n_accepted"]


def test_drafts_of_a_model_are_counted_with_the_others(lm: LanguageModel, client: Client) -> None:
    """The model itself, on a device of its own."""
    body = {"prompt": "xyz", "max_tokens": 30, **GREEDY}
    plain = client.ask(COMPLETIONS, {**body, "speculative.n_max": 0})[1]
    before = metrics(client)
    with tailrace.load(lm.engine.imported.model.path, context=64, batch=2) as same:
        lm.engine.draft_with(EngineDraft(same.engine)).costs = Fixed(0.01, 0)
        lm.engine.costs = Fixed(1, 0.01)
        found = client.ask(COMPLETIONS, body)[1]
        lm.engine.drafting, lm.engine.costs = None, Costs()
    assert found["choices"] == plain["choices"]
    after = metrics(client)
    drafted, accepted = (
        after[f"vllm:spec_decode_num_{n}_total"] - before[f"vllm:spec_decode_num_{n}_total"]
        for n in ("draft_tokens", "accepted_tokens")
    )
    assert (found["timings"]["draft_n"], found["timings"]["draft_n_accepted"]) == (drafted, accepted)
    assert drafted >= accepted > 15


@pytest.mark.parametrize(
    "prediction", [{"type": "text", "content": "a"}, {"type": "content"}, {"type": "content", "content": [1]}]
)
def test_predictions_that_are_none(client: Client, prediction: Any) -> None:
    status, answer, _ = client.ask(COMPLETIONS, {"prompt": "a", "prediction": prediction})
    assert (status, answer["error"]["param"]) == (400, "prediction")
    text = f"prediction must be {{'type': 'content', 'content': TEXT}}, not {prediction!r}"
    assert answer["error"]["message"] == text


def test_stalls_are_those_that_the_device_counts(client: Client) -> None:
    from tailrace.device.counters import STALLS

    found = [name for name in metrics(client) if name.startswith("tailrace:stall_cycles_total")]
    assert found == [f'tailrace:stall_cycles_total{{cause="{stall.removeprefix("STALL_").lower()}"}}' for stall in STALLS]


def test_predicted_cycles(lm: LanguageModel, client: Client) -> None:
    """Every step counts, by its program and place; the emulator counts no cycles, so a prediction takes their place."""
    name, decoder = "tailrace:predicted_cycles_total", lm.decoder
    before, taken = metrics(client)[name], Counter(decoder.steps)
    status, _ = client.ask(COMPLETIONS, {"prompt": [5, 6, 7], "max_tokens": 4, "speculative.n_max": 0, **GREEDY})[:2]
    assert status == 200
    steps = Counter(decoder.steps) - taken
    # The prompt's tokens share a pass, which gives the first token, and there is one for each of the others.
    assert steps.total() == 4
    config = config_of(decoder.device.transport)
    assert config is not None
    cycles = PredictedCycles(decoder.programs, config)
    assert before == round(cycles.sum(taken))
    assert metrics(client)[name] == round(cycles.sum(taken + steps)) > before


def test_histograms() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.001, 0.0011, 3.0, 1e9):
        histogram.observe(seconds)
    buckets = dict(histogram.buckets())
    assert (buckets["0.001"], buckets["0.0025"], buckets["2.5"], buckets["5"], buckets["3600"], buckets["+Inf"]) == (
        2,
        3,
        3,
        4,
        4,
        5,
    )
    assert list(buckets.values()) == sorted(buckets.values())
    assert len(buckets) == len(BOUNDS) + 1
    assert (histogram.count, histogram.sum) == (5, 1e9 + 3.0021)


def test_the_last_step_as_a_trace(lm: LanguageModel) -> None:
    """Every operation of the program that was run, at the places that a prediction gives them."""
    decoder = lm.engine.decoder
    with serving(lm) as client:
        decoder.last_step = None
        text = "there is no step to tell of: none was taken, or the device does not say of what build it is"
        assert (client.ask("/trace")[0], client.ask("/trace")[1]["error"]["message"]) == (404, text)
        assert client.ask(COMPLETIONS, {"prompt": "abcdef", "temperature": 1, "max_tokens": 3, **ENDLESS})[0] == 200
        status, trace = client.ask("/trace")[:2]
    assert status == 200
    name, position = decoder.last_step
    config = config_of(decoder.device.transport)
    assert config is not None
    prediction = predict_step(decoder.programs, config, position, program=name, exact=True)
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert len(slices) == len(prediction.operations) > 20
    assert max(round(1000 * (e["ts"] + e["dur"])) for e in slices) <= prediction.cycles
    title = f"a step of llama at position {position} on {config.name}, {prediction.cycles:,} cycles, predicted"
    assert trace["traceEvents"][0]["args"]["name"] == title


def test_a_device_that_fails_again_and_again_is_not_well(lm: LanguageModel) -> None:
    decoder, take = lm.engine.decoder, lm.engine.decoder.take

    def fail(*given: Any) -> Any:
        raise tailrace.TailraceError("the device stopped")

    with serving(lm) as client:
        decoder.take = fail  # type: ignore[method-assign]
        try:
            statuses = [
                (client.ask(COMPLETIONS, {"prompt": "ab", "temperature": 1})[0], client.ask("/health")[0]) for _ in range(2)
            ]
        finally:
            decoder.take = take  # type: ignore[method-assign]
        assert statuses == [(500, 200), (500, 503)]
        told = client.ask("/health")[1]
        assert told["error"] == {"code": 503, "message": "the device stopped", "type": "unavailable_error"}
        assert client.ask(COMPLETIONS, {"prompt": "ab", "temperature": 1, "max_tokens": 1})[0] == 200
        assert json.loads(json.dumps(client.ask("/health")[1]))["status"] == "ok"
