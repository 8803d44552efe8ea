"""What has been done, in Prometheus' text format; names are vLLM's and llama.cpp's where the meaning is the same."""

from collections.abc import Iterator

from .scheduler import Scheduler


def metrics_text(scheduler: Scheduler, model: str) -> str:
    """The body of ``/metrics``."""
    return "\n".join(_lines(scheduler, model)) + "\n"


def _lines(scheduler: Scheduler, model: str) -> Iterator[str]:
    load, batch = scheduler.load, scheduler.engine.decoder.batch
    label = f'{{model_name="{_escaped(model)}"}}'
    found: tuple[tuple[str, str, str, float], ...] = (
        ("vllm:num_requests_running", "gauge", "Answers that are being computed.", load.running),
        ("vllm:num_requests_waiting", "gauge", "Answers that wait for a sequence.", load.waiting),
        ("vllm:prompt_tokens_total", "counter", "Tokens of prompts.", load.prompt_tokens),
        ("vllm:generation_tokens_total", "counter", "Tokens of answers.", load.generated_tokens),
        (
            "llamacpp:prompt_tokens_total",
            "counter",
            "Tokens of prompts that were computed.",
            load.prompt_tokens - load.reused_tokens,
        ),
        ("llamacpp:tokens_predicted_total", "counter", "Tokens of answers.", load.generated_tokens),
        ("llamacpp:requests_processing", "gauge", "Answers that are being computed.", load.running),
        ("llamacpp:requests_deferred", "gauge", "Answers that wait for a sequence.", load.waiting),
        ("tailrace:sequences", "gauge", "Sequences of the device.", batch),
        ("tailrace:steps_total", "counter", "Steps of the device.", load.steps),
        ("tailrace:device_seconds_total", "counter", "Time in which the device was at work.", load.seconds),
        ("tailrace:answers_finished_total", "counter", "Answers that came to their end.", load.finished),
        ("tailrace:requests_cancelled_total", "counter", "Requests whose client went away.", load.cancelled),
        ("tailrace:requests_failed_total", "counter", "Requests that failed in the device or the server.", load.failed),
        ("tailrace:requests_refused_total", "counter", "Requests for which the queue had no room.", load.refused),
        ("tailrace:reused_tokens_total", "counter", "Tokens of prompts that the device held already.", load.reused_tokens),
    )
    for name, kind, text, value in found:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        yield f"{name}{label} {value:.17g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
