"""What the command line was asked to do."""

from dataclasses import dataclass
from pathlib import Path

from ..generation.answer import Wish


@dataclass(frozen=True)
class Request:
    """What the user asked for; the fields are the options of ``tailrace run``.

    `device` is one of `tailrace.sim.devices.KINDS` or a name of hardware; of hardware, `config` and `memory` mean nothing, and
    `clock` is None if it is to tell its clock itself.
    """

    model: str
    prompt: str
    new_tokens: int
    device: str
    config: str
    memory: str
    path: str
    prefill: str
    torch_device: str
    torch_dtype: str
    context: int | None
    tokens_per_doorbell: int
    raw: bool
    memory_timing: str
    latency: int
    bandwidth: float
    clock: float | None
    wave: str | None
    trace: Path | None
    threads: int | None
    optimise: bool
    wish: Wish
    quantise: str | None
    draft: str | None
    allow_host: bool
    quiet: bool
