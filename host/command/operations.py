"""One answer by way of PyTorch: the device multiplies, everything else runs on the host."""

import hashlib
import time
from typing import TYPE_CHECKING, Any

from ..device.counters import Counters
from ..device.driver import Device
from ..huggingface.loader import load_model
from ..huggingface.operations import OperationOffload
from ..huggingface.placement import Plan
from ..huggingface.streamer import TextOutput
from .report import Run
from .request import Request
from .terminal import Terminal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenise(tokenizer: "PreTrainedTokenizerBase", request: Request) -> Any:
    """What the model takes, as Hugging Face has it."""
    if request.raw:
        return tokenizer(request.prompt, return_tensors="pt")
    chat = [{"role": "user", "content": request.prompt}]
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)


def answer_by_operations(
    request: Request, terminal: Terminal, plan: Plan, context: int, device: Device, tokenizer: "PreTrainedTokenizerBase",
    inputs: Any,
) -> Run:  # fmt: skip
    """Load the model on host and device, and generate."""
    import torch

    sampler = request.wish.sampler
    device.results_digest = digest = hashlib.sha256()
    with terminal.phase("loading the model for the host, and checking its weights"):
        host = load_model(plan, context, request.torch_device, request.torch_dtype)

    def note(step: Counters) -> None:
        terminal.note_step(len(offload.steps), request.new_tokens, step.cycles, request.clock, time.monotonic() - start)

    with terminal.phase("uploading to the device"):
        offload = OperationOffload(host, plan, device, on_progress=terminal.progress, on_step=note)
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampler.draws:
        names = ("temperature", "top_k", "top_p", "min_p")
        sampling = {"do_sample": True, **{name: getattr(sampler, name) for name in names}}
        torch.manual_seed(sampler.seed)
    start = time.monotonic()
    with terminal.generation():
        output = offload.generate(
            **inputs.to(host.model.device),
            max_new_tokens=request.new_tokens,
            repetition_penalty=sampler.repetition_penalty,
            streamer=TextOutput(tokenizer, terminal.write),
            **sampling,
        )
    return Run(
        prompt_tokens=inputs["input_ids"].shape[1],
        new_tokens=output.shape[1] - inputs["input_ids"].shape[1],
        seed=sampler.seed,
        steps=len(offload.steps),
        counters=sum(offload.steps, Counters()),
        seconds=time.monotonic() - start,
        digest=digest.hexdigest(),
        on_host=offload.on_host,
    )
