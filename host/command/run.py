"""One answer: from a model and a prompt to text, with the decode on a device."""

import hashlib
import importlib.util
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import Any

from tailrace.sim.devices import open_device
from tailrace.sim.timing.prediction import LATENCY
from tailrace.spec.config import Config, parse_config
from tailrace.spec.errors import ConfigError, LimitError, MissingPackage, TailraceError
from tailrace.spec.transport import Transport

from ..device.counters import Counters
from ..device.decoder import Decoder
from ..device.driver import Device
from ..device.training import optimised_simulation
from ..generation.engine import Engine
from ..generation.engine_draft import EngineDraft
from ..generation.sequences import Holder
from ..gguf.describe import ImportedModel, NoDescriptionError, check_context, check_operations, import_model
from ..gguf.file import Model, open_model
from ..huggingface.placement import make_plan, make_smallest_plan
from ..image.builds import AUTO, builds_of, choose, is_auto, rounded_up
from ..image.image import ImageRequest
from ..loading import Drafter, open_draft
from ..models.fetch import resolve_model
from ..text.grammar import Grammars
from ..text.tokenizer import Tokenizer
from ..transports.facts import clock_of
from ..transports.open import is_hardware, open_transport, parse_hardware
from ..transports.sizes import format_size, parse_size
from .expectation import Expectation, expected
from .report import Run, Setting, run_table
from .request import Request
from .terminal import Terminal
from .waveform import parse_wave

#: Cycles of a row of the memory port's use in a trace.
TRACE_BUCKET = 256
#: Devices whose cycles are predicted.
_WITHOUT_CYCLES = ("emulator", "golden")


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
    if is_hardware(request.device):
        parse_hardware(request.device)
    else:
        builds_of(request.config), _memory(request)
    with terminal.phase("looking for the model"):
        path = resolve_model(request.model, terminal.progress)
    with terminal.phase(f"importing {path.name}"):
        model = open_model(path)
        request = _without_template(request, terminal, model)
        imported = _import(request, terminal, model)
    _refuse_without_effect(request, imported is not None)
    if imported is None:
        _answer_by_operations(request, terminal, model)
    else:
        _answer_by_steps(request, terminal, imported)


def _without_template(request: Request, terminal: Terminal, model: Model) -> Request:
    """The request, with its prompt continued as it is if the model knows no chats."""
    if request.raw or model.header.text("tokenizer.chat_template", ""):
        return request
    terminal.console.print(
        f"{model.path} has no chat template: the prompt is continued as it is, as with --raw", soft_wrap=True
    )
    return replace(request, raw=True)


def _import(request: Request, terminal: Terminal, model: Model) -> ImportedModel | None:
    """The model for whole decode steps; None if its operations are to run one by one."""
    if request.path == "operations":
        check_operations(model)
        return None
    if request.allow_host and request.path == "decoder":
        raise ConfigError("--allow-host is for matrices that run one by one: leave --path decoder out")
    try:
        drafts = request.wish.speculate and request.draft is None and request.tokens_per_doorbell == 1
        imported = import_model(model, request.context, drafts=drafts)
        if request.allow_host:
            raise NoDescriptionError("--allow-host was given")
        return imported
    except NoDescriptionError as error:
        if request.path == "decoder":
            raise
        check_operations(model)
        terminal.console.print(
            f"{error}. So only its linear layers run on the device, one doorbell for each group of them, and the rest runs"
            " on the host, with PyTorch.",
            soft_wrap=True,
        )
        return None


def _refuse_without_effect(request: Request, whole_steps: bool) -> None:
    """Refuse what was asked for and would change nothing; only with the model it is known what runs."""
    sampler = request.wish.sampler
    if whole_steps:
        why = "is for what PyTorch computes, and here it computes nothing: give --prefill torch, or leave it out"
        asked = {"--torch-device": request.torch_device != AUTO, "--torch-dtype": request.torch_dtype != AUTO}
        asked = {option: there and request.prefill != "torch" for option, there in asked.items()}
    else:
        why = "is for whole decode steps, and here operations run one by one: leave it out"
        asked = {
            "--prefill": request.prefill == "torch",
            "--tokens-per-doorbell": request.tokens_per_doorbell > 1,
            "--trace": request.trace is not None,
            "--stop": bool(request.wish.stop),
            "--no-speculate": not request.wish.speculate,
            "--draft": request.draft is not None,
            "--presence-penalty": bool(sampler.presence_penalty),
            "--frequency-penalty": bool(sampler.frequency_penalty),
            "--json-schema or --grammar": request.wish.grammar is not None,
            # Without a simulation these are for predicted cycles.
            "--memory-timing": request.device in _WITHOUT_CYCLES and request.memory_timing != "ideal",
            "--latency": request.device in _WITHOUT_CYCLES and request.latency != LATENCY,
            "--bandwidth": request.device in _WITHOUT_CYCLES and request.bandwidth != 1,
        }
    for option, there in asked.items():
        if there:
            raise ConfigError(f"{option} {why}")


def _answer_by_steps(request: Request, terminal: Terminal, imported: ImportedModel) -> None:
    model = imported.model
    tokenizer = Tokenizer(model)
    tokens = tokenizer.encode(request.prompt) if request.raw else tokenizer.encode_chat(request.prompt)
    for line in tokenizer.notes:
        terminal.warn(f"the tokenizer: {line}")
    if request.wish.grammar is not None:
        # Told before a device is built.
        Grammars(tokenizer).begin(request.wish.grammar)
    imported = imported.at(check_length(request, model, len(tokens)))
    given, wanted = request, ImageRequest(whole_embedding=request.tokens_per_doorbell > 1, quantise=request.quantise)
    if not is_hardware(request.device):
        # Refuses before a device is built what can't run on it.
        memory = _memory(request)
        chosen = choose(
            imported,
            wanted,
            request.config,
            memory,
            simulated=request.device == "verilator",
            native=request.device == "emulator",
        )
        request = _decided(request, terminal, chosen.config, chosen.memory)
    if request.prefill == "torch":
        require_torch()
    with _drafter(given, terminal, imported, tokenizer) as drafter, _opened(request, terminal) as device:
        clock = _clock(request, device)
        digest = hashlib.sha256()
        steps: list[Counters] = []

        def note(counters: Counters) -> None:
            steps.append(counters)
            if not prompt_done:
                terminal.progress("computing the prompt", decoder.positions[0] / len(tokens))
                return
            taken = counters.weight_bytes // decoder.image.token_bytes
            before = sum(one.weight_bytes for one in steps[:-1]) // decoder.image.token_bytes
            if request.trace is not None and not before:
                # What is traced is the first step, and not what may have to be folded before it.
                if taken:
                    _write_trace(request, imported, decoder)
                else:
                    device.transport.record()  # type: ignore[attr-defined]
            if taken:
                elapsed = time.monotonic() - start
                terminal.note_step(
                    before + taken + asked.accepted, request.new_tokens, counters.cycles // taken, clock, elapsed
                )

        with terminal.phase("uploading to the device"):
            decoder = Decoder(
                device,
                imported,
                tokens_per_doorbell=request.tokens_per_doorbell,
                quantise=request.quantise,
                on_progress=terminal.progress,
                on_step=note,
            )
        prompt_done = False
        with terminal.phase("computing the prompt"):
            prompt_start = time.monotonic()
            _prefill(request, imported, decoder, tokens[:-1])
            prompt_seconds = time.monotonic() - prompt_start
        prompt_counters, steps = sum(steps, Counters()), []
        prompt_done = True
        if request.trace is not None:
            device.transport.record()  # type: ignore[attr-defined]
        engine = Engine(decoder, tokenizer)
        engine.digest = digest
        if drafter is not None:
            engine.draft_with(drafter.model)
        engine.sequences.note_run(0, 0, tokens[:-1])
        asked = engine.answer(0, tokens, Holder(), request.wish)
        decoders = [decoder, *([drafter.model.engine.decoder] if drafter and isinstance(drafter.model, EngineDraft) else [])]
        before_answer = [Counter(one.steps) for one in decoders]
        start = time.monotonic()
        with terminal.generation():
            for piece in engine.pieces([asked]):
                terminal.write(piece.text)
            terminal.write("\n")
        counters, completion = sum(steps, Counters()), asked.completion()
        run = Run(
            prompt_tokens=len(tokens),
            new_tokens=len(completion.tokens),
            seed=completion.seed,
            steps=counters.weight_bytes // decoder.image.token_bytes,
            doorbells=len(steps),
            counters=counters,
            seconds=time.monotonic() - start,
            digest=digest.hexdigest(),
            whole_steps=True,
            prompt_steps=len(tokens) - 1 if request.prefill == "device" else 0,
            prompt_rows=decoder.programs.most_rows,
            prompt_counters=prompt_counters,
            prompt_seconds=prompt_seconds,
            drafted=completion.drafted_tokens,
            accepted=completion.accepted_tokens,
        )
        taken_steps = [Counter(one.steps) - before for one, before in zip(decoders, before_answer, strict=True)]
        with terminal.phase("predicting what that takes"):
            expectation = _expected(request, decoders, run, taken_steps)
        _close(request, terminal, run, device, expectation)


def _drafter(
    request: Request, terminal: Terminal, imported: ImportedModel, tokenizer: Tokenizer
) -> AbstractContextManager[Drafter | None]:
    """The draft model on a device of its own, if there is to be one."""
    if request.draft is None:
        return nullcontext()
    with terminal.phase(f"loading {request.draft} into a device of its own"):
        drafter = open_draft(
            request.draft, request.device, config=request.config, memory=request.memory, context=imported.context,
            quantise=request.quantise, progress=terminal.progress,
        )  # fmt: skip
    try:
        drafter.model.check(tokenizer, 1)
    except BaseException:
        drafter.close()
        raise
    return closing(drafter)


def _expected(
    request: Request, decoders: Sequence[Decoder], run: Run, steps: Sequence[Counter[tuple[str, int]]]
) -> Expectation | None:
    """What the answer's tokens should take; of the draft model's prompt nothing is said, like that of the model's."""
    if request.quiet:
        return None
    first = run.prompt_tokens - 1
    return expected(
        decoders, steps, range(first, first + run.taken), "logits" if request.wish.needs_logits else "tokens",
        memory=request.memory_timing, latency=request.latency, bandwidth=request.bandwidth,
    )  # fmt: skip


def _write_trace(request: Request, imported: ImportedModel, decoder: Decoder) -> None:
    from .trace import write_trace

    assert request.trace is not None
    assert decoder.last_step is not None
    program = decoder.programs.program_at(*decoder.last_step)
    timeline = decoder.device.transport.timeline()  # type: ignore[attr-defined]
    title = f"{imported.model.path.stem}, {request.config}, memory {request.memory_timing}, position {decoder.positions[0]}"
    write_trace(request.trace, timeline, program.commands, program.sections, title)


def _prefill(request: Request, imported: ImportedModel, decoder: Decoder, tokens: list[int]) -> None:
    if not tokens:
        return
    if request.prefill == "device":
        decoder.prefill(tokens)
        return
    import torch
    from transformers import DynamicCache

    from ..huggingface.handover import hand_over
    from ..huggingface.loader import load_model
    from ..huggingface.prefill import prefill

    plan = make_plan(imported.model, decoder.device.geometry, request.quantise)
    host = load_model(plan, imported.context, request.torch_device, request.torch_dtype).model
    cache = DynamicCache(config=host.config)
    with torch.no_grad():
        prefill(host, torch.tensor([tokens]), cache)
    hand_over(decoder, cache, [len(tokens)])


def _answer_by_operations(request: Request, terminal: Terminal, model: Model) -> None:
    if not is_hardware(request.device):
        request = _decide_by_plan(request, terminal, model)
    require_torch()
    from ..huggingface.loader import load_tokenizer
    from .operations import answer_by_operations, tokenise

    with terminal.phase("loading the tokenizer"):
        tokenizer = load_tokenizer(model)
        inputs = tokenise(tokenizer, request)
        context = check_length(request, model, inputs["input_ids"].shape[1])
    with _opened(request, terminal) as device:
        plan = make_plan(model, device.geometry, request.quantise)
        plan.check(device.transport.memory_size, allow_host=request.allow_host)
        run = answer_by_operations(request, terminal, plan, context, device, tokenizer, inputs)
        _close(request, terminal, run, device)


def check_length(request: Request, model: Model, length: int) -> int:
    """Check that prompt and answer fit the context.

    Returns
    -------
    int
        Positions that are to be provided for.

    Raises
    ------
    TailraceError
        If the prompt is empty.
    LimitError
        If they do not fit.
    """
    if length == 0:
        raise TailraceError("the prompt is empty: it has no tokens")
    context = check_context(model, request.context)
    room = context - length
    if request.new_tokens > room:
        advice = f"ask for at most {room} with -n" if room > 0 else "shorten it"
        whose = "the model's context" if request.context is None else "the context"
        raise LimitError(
            f"the prompt has {length} tokens and {request.new_tokens} more were asked for, but {whose} is {context}: {advice}"
        )
    return length + request.new_tokens if request.context is None else context


def _decide_by_plan(request: Request, terminal: Terminal, model: Model) -> Request:
    """The build and the memory for a model whose operations run one by one."""
    memory = _memory(request)
    config, plan = make_smallest_plan(model, request.quantise, request.config)
    memory = rounded_up(plan.memory_bytes) if memory is None else memory
    plan.check(memory, allow_host=request.allow_host)
    return _decided(request, terminal, config, memory)


def _memory(request: Request) -> int | None:
    """The memory that was asked for; None: what is needed."""
    return None if request.memory == AUTO else parse_size(request.memory)


def _decided(request: Request, terminal: Terminal, config: Config, memory: int) -> Request:
    """The request with a build and memory, and a word on what was not asked for."""
    taken: list[str] = []
    if is_auto(request.config):
        taken.append(f"configuration {config.name}, the smallest that takes this model with this context")
    if request.memory == AUTO:
        taken.append(f"{format_size(memory)} of device memory")
    if taken:
        terminal.console.print(f"taken: {'; '.join(taken)}", soft_wrap=True)
    return replace(request, config=config.name, memory=format_size(memory))


def _opened(request: Request, terminal: Terminal) -> Device:
    if is_hardware(request.device):
        with terminal.phase(f"opening {request.device}"):
            return Device(open_transport(request.device))
    config, memory_size = parse_config(request.config), parse_size(request.memory)
    with terminal.phase(f"opening the device ({request.device}, {request.config}; the first time it is compiled)"):
        return Device(open_device(request.device, config, memory_size, **_device_options(request, config)))


def _clock(request: Request, device: Device) -> float | None:
    """MHz to state a speed for: what was asked for, or what hardware says of itself."""
    return request.clock or clock_of(device.transport)


def _close(
    request: Request,
    terminal: Terminal,
    run: Run,
    device: Device,
    expectation: Expectation | None = None,
) -> None:
    conditions = f"memory: latency {request.latency} cycles, {request.bandwidth:g} beats per cycle"
    if request.memory_timing != "ideal":
        conditions = f"memory: a {request.memory_timing.upper()} channel as wide as the bus"
    setting = Setting(
        device_name=device.transport.name,
        config_name=None if is_hardware(request.device) else parse_config(request.config).name,
        simulated=device.transport.simulated,
        conditions=conditions if device.transport.simulated else "",
        clock=_clock(request, device),
        expected=expectation,
        expected_of=conditions,
    )
    terminal.console.print(run_table(run, setting, device.geometry))
    if request.device == "verilator":
        terminal.console.print("the same tokens with the same bits, sooner, and cycles predicted: --device emulator")
    if request.wave is not None:
        terminal.console.print(_wave_note(request.wave, device.transport))
    if request.trace is not None:
        terminal.console.print(f"{request.trace}: open it at ui.perfetto.dev, or draw it with tailrace plot", soft_wrap=True)


def _device_options(request: Request, config: Config) -> dict[str, Any]:
    if request.device == "golden":
        return {}
    if request.device == "emulator":
        return {"threads": request.threads}
    options: dict[str, Any] = {
        "memory": request.memory_timing,
        "latency": request.latency,
        "bandwidth": request.bandwidth,
        "threads": request.threads or 1,
    }
    if request.trace is not None:
        options["timeline"] = TRACE_BUCKET
    if request.wave is not None:
        options["trace"], options["trace_window"] = parse_wave(request.wave)
    if request.optimise:
        options["library"] = optimised_simulation(
            config, trace=request.wave is not None, probe=request.trace is not None, threads=options["threads"]
        )
    return options


def _wave_note(wave: str, transport: Transport) -> str:
    path, (first, end) = parse_wave(wave)
    cycles = transport.cycles  # type: ignore[attr-defined]
    if first >= cycles:
        return f"{path} is empty: the simulation had {cycles:,} cycles, and the waveform was to begin at {first:,}"
    return f"{path}: cycles {first:,} to {min(end, cycles) - 1:,} of {cycles:,}"


def require_torch() -> None:
    """Check that what runs models on the host is installed.

    Raises
    ------
    ToolError
        If it is not.
    """
    missing = [name for name in ("torch", "transformers", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackage(", ".join(missing), "to run models on the host", "torch")
    from transformers.utils import logging

    logging.set_verbosity_error()
