"""What the command line was asked to do."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """What the user asked for; the fields are the options of ``tailrace run``."""

    model: str
    prompt: str
    new_tokens: int
    device: str
    config: str
    memory: str
    path: str
    prefill: str
    context: int | None
    tokens_per_doorbell: int
    raw: bool
    memory_timing: str
    latency: int
    bandwidth: float
    clock: float
    wave: str | None
    trace: str | None
    threads: int
    temperature: float | None
    top_p: float
    seed: int
    quantise: str | None
    allow_host: bool
    quiet: bool
