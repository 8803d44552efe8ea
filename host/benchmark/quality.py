"""How far the device's numbers are from float32: teacher forcing over real text."""

from collections.abc import Callable
from pathlib import Path

import torch

from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import LimitError

from ..device.decoder import Decoder
from ..device.driver import Device
from ..gguf.describe import import_model
from ..gguf.file import Model, open_model
from ..huggingface.loader import load_model, load_tokenizer
from ..huggingface.operations import OperationOffload
from ..huggingface.placement import make_plan
from ..image.geometry import Geometry
from .comparison import Quality

#: The beginning of The Tempest (W. Shakespeare, 1611; in the public domain).
TEXT = Path(__file__).with_name("tempest.txt")


def compare(reference: torch.Tensor, device: torch.Tensor, tokens: torch.Tensor) -> Quality:
    """Compare logits.

    Parameters
    ----------
    reference, device : tensor, shape (positions, vocabulary)
    tokens : tensor of int64, shape (positions,)
        The text that both have read.
    """
    p, q = (torch.log_softmax(logits.double(), dim=-1) for logits in (reference, device))
    divergence = (p.exp() * (p - q)).sum(dim=-1)
    following = tokens[1:, None]
    losses = [-log[:-1].gather(1, following).mean() for log in (p, q)]
    return Quality(
        positions=len(tokens),
        mean_divergence=float(divergence.mean()),
        largest_divergence=float(divergence.max()),
        same_best=float((p.argmax(-1) == q.argmax(-1)).double().mean()),
        reference_perplexity=float(losses[0].exp()),
        device_perplexity=float(losses[1].exp()),
    )


def measure_quality(
    path: str,
    *,
    positions: int = 512,
    operations: bool = False,
    device: str = "emulator",
    config: str = "base,right_hand_sides=4",
    memory_size: int = 1 << 30,
    text: Path = TEXT,
    on_progress: Callable[[str, float], None] | None = None,
) -> Quality:
    """Teacher-force a model over a text on the device, against the same model in float32 on the host.

    Both use the same dequantised weights.

    Parameters
    ----------
    path : str
        GGUF file.
    positions : int
        Tokens of the text.
    operations : bool
        Whether only the linear layers run on the device, one by one, and the host computes attention and norms in float32.
        Else the device takes whole decode steps, with its KV cache of 8 bits.
    device, config, memory_size
        The device.
    text : Path
        A text file, long enough.
    on_progress : callable or None
        Told what has been done, and which part of the whole.

    Raises
    ------
    LimitError
        If the text is too short.
    """
    tell = on_progress or (lambda what, part: None)
    model = open_model(path)
    plan = make_plan(model, Geometry.of_config(parse_config(config)))
    plan.check(memory_size)
    tell("reading the text", 0.0)
    tokens = load_tokenizer(model)(text.read_text(encoding="utf-8"), return_tensors="pt").input_ids[:, :positions]
    if tokens.shape[1] < positions:
        raise LimitError(
            f"{text} has {tokens.shape[1]} tokens, and {positions} are needed: give a longer text or fewer positions"
        )
    tell("loading the model", 0.02)
    host = load_model(plan, positions, "cpu")
    with torch.no_grad():
        tell("float32 on the host", 0.05)
        reference = host.model(input_ids=tokens, use_cache=False).logits[0].float()
    with Device(open_device(device, parse_config(config), memory_size)) as opened:
        tell("uploading", 0.1)
        if operations:
            offload = OperationOffload(host, plan, opened)
            tell(f"{device}, all linear layers", 0.2)
            mine = offload.logits(tokens)[0].float().cpu()
        else:
            del host
            mine = _decoded(model, opened, tokens[0], lambda part: tell(f"{device}, token by token", 0.1 + 0.9 * part))
    tell("done", 1.0)
    return compare(reference, mine, tokens[0])


def _decoded(model: Model, device: Device, tokens: torch.Tensor, tell: Callable[[float], None]) -> torch.Tensor:
    """Logits of whole decode steps, shape (positions, vocabulary)."""
    count = len(tokens)
    decoder = Decoder(device, import_model(model, count))
    logits = torch.empty(count, decoder.imported.description.vocabulary)
    for position, token in enumerate(tokens.tolist()):
        logits[position] = torch.from_numpy(decoder.step(token).copy())
        tell((position + 1) / count)
    return logits
