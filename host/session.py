"""One answer: from a model and a prompt to text, with the decode on a device."""

import hashlib
import importlib.util
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailrace.sim.devices import open_device
from tailrace.spec.config import Config, parse_config
from tailrace.spec.errors import ConfigError, LimitError, ModelError, TailraceError, ToolError

from .counters import Counters
from .driver import Device
from .fetch import resolve_model
from .geometry import Geometry
from .model import Model, open_model
from .plan import Plan, make_plan
from .report import Run, run_table
from .terminal import Terminal
from .units import parse_size, parse_wave

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Request:
    """What the user asked for; the fields are the options of ``tailrace run``."""

    model: str
    prompt: str
    new_tokens: int
    device: str
    config: str
    memory: str
    raw: bool
    latency: int
    bandwidth: float
    clock: float
    wave: str | None
    threads: int
    temperature: float | None
    seed: int
    quantise: str | None
    allow_host: bool
    quiet: bool


def answer(request: Request) -> None:
    """Answer a prompt: text to standard output, everything else to standard error.

    Raises
    ------
    TailraceError
        For everything that a user can mend.
    """
    terminal = Terminal(request.quiet)
    if not request.prompt.strip():
        raise TailraceError("the prompt is empty: give some text with -p")
    config, memory_size = parse_config(request.config), parse_size(request.memory)
    options = _device_options(request)
    with terminal.phase("looking for the model"):
        path = resolve_model(request.model, terminal.progress)
    with terminal.phase(f"importing {path.name}"):
        model = open_model(path)
        make_plan(model, Geometry.of_config(config), request.quantise).check(memory_size, allow_host=request.allow_host)
    require_torch()
    with terminal.phase("loading the tokenizer"):
        from .offload.loader import load_tokenizer

        tokenizer = load_tokenizer(model)
        inputs = _tokenise(tokenizer, model, request)
    with terminal.phase(f"opening the device ({request.device}, {request.config}; the first time it is compiled)"):
        transport = open_device(request.device, config, memory_size, **options)
    with Device(transport) as device:
        plan = make_plan(model, device.geometry, request.quantise)
        plan.check(memory_size, allow_host=request.allow_host)
        run = _decode(request, terminal, plan, device, tokenizer, inputs, config)
        terminal.console.print(run_table(run, device.geometry))
        if request.wave is not None:
            terminal.console.print(_wave_note(request.wave, transport))


def _device_options(request: Request) -> dict[str, Any]:
    if request.device == "golden":
        if request.wave is not None:
            raise ConfigError("the golden model has no signals to trace: use --wave with --device verilator")
        return {}
    options: dict[str, Any] = {"latency": request.latency, "bandwidth": request.bandwidth, "threads": request.threads}
    if request.wave is not None:
        options["trace"], options["trace_window"] = parse_wave(request.wave)
    return options


def _wave_note(wave: str, transport: Any) -> str:
    path, (first, end) = parse_wave(wave)
    cycles = transport.cycles
    if first >= cycles:
        return f"{path} is empty: the simulation had {cycles:,} cycles, and the waveform was to begin at {first:,}"
    return f"{path}: cycles {first:,} to {min(end, cycles) - 1:,} of {cycles:,}"


def require_torch() -> None:
    """Check that what the prefill needs is installed.

    Raises
    ------
    ToolError
        If it is not.
    """
    missing = [name for name in ("torch", "transformers", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ToolError(f"this needs {', '.join(missing)} for the prefill: pip install 'tailrace[torch]'")
    from transformers.utils import logging

    logging.set_verbosity_error()


def _tokenise(tokenizer: "PreTrainedTokenizerBase", model: Model, request: Request) -> Any:
    if request.raw:
        inputs = tokenizer(request.prompt, return_tensors="pt")
    else:
        if not tokenizer.chat_template:
            raise ModelError(f"{model.path} has no chat template: give --raw to continue the prompt as it is")
        chat = [{"role": "user", "content": request.prompt}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    length = inputs["input_ids"].shape[1]
    if length == 0:
        raise TailraceError("the prompt is empty: it has no tokens")
    room = model.context_length - length
    if request.new_tokens > room:
        advice = f"ask for at most {room} with -n" if room > 0 else "shorten it"
        raise LimitError(
            f"the prompt has {length} tokens and {request.new_tokens} more were asked for, but the model's context is"
            f" {model.context_length}: {advice}"
        )
    return inputs


def _decode(
    request: Request,
    terminal: Terminal,
    plan: Plan,
    device: Device,
    tokenizer: "PreTrainedTokenizerBase",
    inputs: Any,
    config: Config,
) -> Run:
    import torch

    from .offload.loader import load_model
    from .offload.offload import Offload
    from .offload.streamer import TextOutput

    device.results_digest = digest = hashlib.sha256()
    with terminal.phase("loading the model for the prefill, and checking its weights"):
        host = load_model(plan)

    def note(step: Counters) -> None:
        count = len(offload.steps)
        speed = (
            f"{step.cycles:,} cycles, {request.clock * 1e6 / step.cycles:.2f} tokens/s at {request.clock:g} MHz"
            if step.cycles
            else ""
        )
        elapsed = time.monotonic() - start
        terminal.note(f"token {count} of {request.new_tokens}: {speed}{', ' if speed else ''}{elapsed / count:.1f} s each here")

    with terminal.phase("uploading to the device"):
        offload = Offload(host, plan, device, on_progress=terminal.progress, on_step=note)
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if request.temperature:
        sampling = {"do_sample": True, "temperature": request.temperature}
        torch.manual_seed(request.seed)
    start = time.monotonic()
    with terminal.generation():
        output = offload.generate(
            **inputs.to(host.model.device),
            max_new_tokens=request.new_tokens,
            streamer=TextOutput(tokenizer, terminal.write),
            **sampling,
        )
    conditions = f"memory: latency {request.latency} cycles, {request.bandwidth:g} beats per cycle"
    return Run(
        device_name=device.transport.name,
        config_name=config.name,
        simulated=device.transport.simulated,
        conditions=conditions if device.transport.simulated else "",
        clock=request.clock,
        prompt_tokens=inputs["input_ids"].shape[1],
        new_tokens=output.shape[1] - inputs["input_ids"].shape[1],
        steps=len(offload.steps),
        counters=sum(offload.steps, Counters()),
        seconds=time.monotonic() - start,
        digest=digest.hexdigest(),
        on_host=offload.on_host,
    )
