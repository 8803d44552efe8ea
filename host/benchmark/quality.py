"""How far the device's numbers are from float32: teacher forcing over real text."""

from collections.abc import Callable
from pathlib import Path

import torch

from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import LimitError

from ..driver import Device
from ..geometry import Geometry
from ..model import open_model
from ..offload.loader import load_model, load_tokenizer
from ..offload.offload import Offload
from ..plan import make_plan
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
    device: str = "golden",
    config: str = "base,right_hand_sides=4",
    memory_size: int = 1 << 30,
    text: Path = TEXT,
    on_progress: Callable[[str, float], None] | None = None,
) -> Quality:
    """Teacher-force a model over a text: every linear layer on the device, against the same model in float32 on the host.

    Both use the same dequantised weights, and the host computes attention and norms in both.

    Parameters
    ----------
    path : str
        GGUF file.
    positions : int
        Tokens of the text.
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
    host = load_model(plan, "cpu")
    with torch.no_grad():
        tell("float32 on the host", 0.1)
        reference = host.model(input_ids=tokens, use_cache=False).logits[0].float()
    with Device(open_device(device, parse_config(config), memory_size)) as opened:
        tell("uploading", 0.15)
        offload = Offload(host, plan, opened)
        tell(f"{device}, all linear layers", 0.2)
        mine = offload.logits(tokens)[0].float().cpu()
    tell("done", 1.0)
    return compare(reference, mine, tokens[0])
