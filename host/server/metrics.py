"""What has been done, in Prometheus' text format; names are vLLM's and llama.cpp's where the meaning is the same."""

from collections.abc import Iterator

from ..device.counters import STALLS
from .histogram import Histogram
from .load import Load
from .predicted_steps import PredictedSteps
from .scheduler import Scheduler


def metrics_text(scheduler: Scheduler, model: str, predicted: PredictedSteps) -> str:
    """The body of ``/metrics``."""
    return "\n".join(_lines(scheduler, model, predicted)) + "\n"


def _lines(scheduler: Scheduler, model: str, predicted: PredictedSteps) -> Iterator[str]:
    load, batch = scheduler.load, scheduler.engine.decoder.batch
    labels = {"model_name": model}
    for name, kind, text, value in _numbers(load, batch):
        yield from _head(name, kind, text)
        yield _value(name, labels, value)
    if not load.counters.cycles and (cycles := predicted.total) is not None:
        text = "Cycles that the device's steps would have taken on the gateware, with an ideal memory: a prediction."
        yield from _head("tailrace:predicted_cycles_total", "counter", text)
        yield _value("tailrace:predicted_cycles_total", labels, cycles)
    yield from _head("vllm:request_success_total", "counter", "Answers that came to their end, by why.")
    for reason in ("stop", "length"):
        count = load.reasons[reason] + (load.reasons["context"] if reason == "length" else 0)
        yield _value("vllm:request_success_total", {**labels, "finished_reason": reason}, count)
    yield from _head("tailrace:stall_cycles_total", "counter", "Cycles in which the device read nothing, by their cause.")
    for stall in STALLS:
        cause = stall.removeprefix("STALL_").lower()
        yield _value("tailrace:stall_cycles_total", {**labels, "cause": cause}, load.counters[stall])
    for name, text, histogram in _histograms(load):
        yield from _head(name, "histogram", text)
        for bound, count in histogram.buckets():
            yield _value(f"{name}_bucket", {**labels, "le": bound}, count)
        yield _value(f"{name}_sum", labels, histogram.sum)
        yield _value(f"{name}_count", labels, histogram.count)


def _numbers(load: Load, batch: int) -> tuple[tuple[str, str, str, float], ...]:
    computed = load.prompt_tokens - load.reused_tokens
    return (
        ("vllm:num_requests_running", "gauge", "Answers that are being computed.", load.running),
        ("vllm:num_requests_waiting", "gauge", "Answers that wait for a sequence.", load.waiting),
        ("vllm:prompt_tokens_total", "counter", "Tokens of prompts.", load.prompt_tokens),
        ("vllm:generation_tokens_total", "counter", "Tokens of answers.", load.generated_tokens),
        ("vllm:spec_decode_num_drafts_total", "counter", "Drafts of answers that were verified.", load.drafts),
        ("vllm:spec_decode_num_draft_tokens_total", "counter", "Tokens of these drafts.", load.drafted_tokens),
        ("vllm:spec_decode_num_accepted_tokens_total", "counter", "Those of them that were right.", load.accepted_tokens),
        ("vllm:prefix_cache_queries_total", "counter", "Tokens of prompts.", load.prompt_tokens),
        ("vllm:prefix_cache_hits_total", "counter", "Tokens of prompts that the device held already.", load.reused_tokens),
        ("llamacpp:prompt_tokens_total", "counter", "Tokens of prompts that were computed.", computed),
        ("llamacpp:prompt_seconds_total", "counter", "Time of finished answers up to their first token.", load.prompt_seconds),
        ("llamacpp:tokens_predicted_total", "counter", "Tokens of answers.", load.generated_tokens),
        ("llamacpp:tokens_predicted_seconds_total", "counter", "Time of finished answers from there on.", load.answer_seconds),
        ("llamacpp:n_decode_total", "counter", "Steps of the device.", load.steps),
        ("llamacpp:n_busy_slots_per_decode", "gauge", "Sequences in a step.", load.busy / load.steps if load.steps else 0),
        ("llamacpp:requests_processing", "gauge", "Answers that are being computed.", load.running),
        ("llamacpp:requests_deferred", "gauge", "Answers that wait for a sequence.", load.waiting),
        ("tailrace:sequences", "gauge", "Sequences of the device.", batch),
        ("tailrace:steps_total", "counter", "Steps of the device.", load.steps),
        ("tailrace:device_seconds_total", "counter", "Time in which the device was at work.", load.seconds),
        ("tailrace:cycles_total", "counter", "Cycles that the device has counted.", load.counters.cycles),
        ("tailrace:answers_finished_total", "counter", "Answers that came to their end.", load.finished),
        ("tailrace:requests_cancelled_total", "counter", "Requests whose client went away.", load.cancelled),
        ("tailrace:requests_failed_total", "counter", "Requests that failed in the device or the server.", load.failed),
        ("tailrace:requests_refused_total", "counter", "Requests for which the queue had no room.", load.refused),
        ("tailrace:reused_tokens_total", "counter", "Tokens of prompts that the device held already.", load.reused_tokens),
    )


def _histograms(load: Load) -> tuple[tuple[str, str, Histogram], ...]:
    return (
        ("vllm:request_queue_time_seconds", "From asking to a sequence.", load.queue),
        ("vllm:time_to_first_token_seconds", "From asking to the first token.", load.first_token),
        ("vllm:inter_token_latency_seconds", "From one token to the next.", load.between_tokens),
        ("vllm:request_prefill_time_seconds", "From a sequence to the first token.", load.prefill),
        ("vllm:request_decode_time_seconds", "From the first token to the end.", load.decode),
        ("vllm:e2e_request_latency_seconds", "From asking to the end.", load.whole),
    )


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _value(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {value:.17g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
