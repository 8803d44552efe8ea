"""Prefill in PyTorch, on a GPU if there is one; hand-over; every new token on a Tailrace device, checked against PyTorch alone.

    python examples/gpu_handover.py
    python examples/gpu_handover.py --model model.gguf --device verilator --torch-device cuda --torch-dtype bfloat16

Exits with 0 only if the distribution of every new token is within a bound of the one that PyTorch computes on its own.
"""

import argparse
import os
import platform
import sys
from importlib.metadata import version
from statistics import median
from typing import Any

import torch

from tailrace.device.counters import Counters
from tailrace.gguf.file import open_model
from tailrace.huggingface import offload
from tailrace.huggingface.loader import DTYPES, load_model
from tailrace.huggingface.placement import make_plan
from tailrace.image.geometry import Geometry
from tailrace.models.fetch import resolve_model
from tailrace.sim.devices import KINDS
from tailrace.spec.config import parse_config
from tailrace.spec.errors import TailraceError
from tailrace.text.tokenizer import Tokenizer

#: Divergence (Kullback-Leibler) of a token from PyTorch alone: what an 8-bit KV cache and the dtype of the prefill leave.
BOUND = 0.02


def main() -> int:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="a GGUF file, smollm2 (fetched once) or shakespeare")
    parser.add_argument(
        "--device", default="emulator", help="emulator, golden, verilator, or hardware such as serial:/dev/ttyUSB0"
    )
    parser.add_argument("--prompt", default="Name three rivers, and say where each of them ends.")
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--torch-device", default="auto", help="auto: cuda if there is one, else cpu")
    parser.add_argument("--torch-dtype", default="auto", choices=["auto", *DTYPES])
    arguments = parser.parse_args()
    try:
        return demonstrate(arguments)
    except TailraceError as error:
        print(f"gpu_handover: {error}", file=sys.stderr)
        return 1


def demonstrate(arguments: argparse.Namespace) -> int:
    """Load, compute the prompt, hand over, decode, compare."""
    path = resolve_model(arguments.model, lambda what, done: None)
    file = open_model(path)
    tokenizer = Tokenizer(file)

    tokens = tokenizer.encode_chat(arguments.prompt) if tokenizer.chat_template else tokenizer.encode(arguments.prompt)
    context = min(len(tokens) + arguments.new_tokens, file.context_length)
    plan = make_plan(file, Geometry.of_config(parse_config("base")))
    model = load_model(plan, context, arguments.torch_device, arguments.torch_dtype).model
    place = model.device
    if place.type == "cpu":
        print("no GPU is used: PyTorch computes the prompt on the CPU")
    print(f"prefill   {_name(place)}, {model.dtype}, {path.name}, {len(tokens)} tokens")
    versions = ", ".join(f"{name} {version(name)}" for name in ("tailrace", "torch", "transformers", "numpy"))
    print(f"with      Python {platform.python_version()}, {versions}, {platform.platform()}")

    inputs = torch.tensor([tokens], device=place)
    wanted: dict[str, Any] = {
        "max_new_tokens": arguments.new_tokens,
        "do_sample": False,
        "eos_token_id": sorted(tokenizer.ends) or None,
        "pad_token_id": 0,
    }
    plain = model.generate(inputs, attention_mask=torch.ones_like(inputs), **wanted)
    wanted |= {"return_dict_in_generate": True, "output_logits": True}
    steps: list[Counters] = []
    with offload(model, arguments.device, gguf=path, context=context, on_step=steps.append) as offloaded:
        geometry = offloaded.decoder.device.geometry
        print(f"decode    {arguments.device}: {8 * geometry.beat_bytes} bits, {geometry.lanes} lanes of 32 multipliers")
        ours = model.generate(inputs, attention_mask=torch.ones_like(inputs), custom_generate=offloaded, **wanted)
        timing = offloaded.timing
    print(f"\n{tokenizer.decode(ours.sequences[0, len(tokens) :].tolist())}\n")
    print(f"time to the first token  {1e3 * timing.first_token:9.1f} ms")
    print(f"  prefill                {1e3 * timing.prefill:9.1f} ms")
    print(f"  hand-over              {1e3 * timing.hand_over:9.1f} ms")
    print(f"  first decode step      {1e3 * timing.steps[0]:9.1f} ms")
    print(f"each token after that    {1e3 * median(timing.steps[1:] or timing.steps):9.1f} ms (median)")
    cycles = steps[-1].cycles
    if cycles:
        print(f"                         {cycles:9,} cycles")
    if arguments.device in KINDS:
        print("(the device is simulated on this CPU: its times are not those of hardware)")
    return 0 if compare(model, plain, ours, len(tokens)) else 1


def compare(model: Any, plain: torch.Tensor, ours: Any, start: int) -> bool:
    """Compare with PyTorch alone: the text, and the distribution of each new token after the tokens before it."""
    with torch.no_grad():
        reference = model(ours.sequences[:, :-1]).logits[0, start - 1 :].to("cpu", torch.float64)
    expected = torch.log_softmax(reference, -1)
    found = torch.log_softmax(torch.stack([x[0] for x in ours.logits]).to("cpu", torch.float64), -1)
    divergences = (expected.exp() * (expected - found)).sum(-1)
    chosen = [text[0, start:].tolist() for text in (plain, ours.sequences)]
    equal = next((n for n, (a, b) in enumerate(zip(*chosen, strict=False)) if a != b), min(map(len, chosen)))
    print(f"PyTorch alone chooses the same {equal} tokens", end="")
    if equal < len(chosen[1]):
        best, mine = expected[equal].exp().topk(2).values.tolist()
        print(f", and then another one (its two best ones have the probabilities {best:.3f} and {mine:.3f})", end="")
    worst = float(divergences.max())
    print(f"\ndivergence from its distributions: {float(divergences.mean()):.2e} on average, at most {worst:.2e}")
    if not worst <= BOUND:
        print(f"FAILED: {BOUND} is allowed")
    return worst <= BOUND


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (CUDA {torch.version.cuda})"
    return f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)


if __name__ == "__main__":
    sys.exit(main())
