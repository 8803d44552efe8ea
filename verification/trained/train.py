"""Trains small models to continue the text that comes along."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tailrace.benchmark.prose import PROSE
from tailrace.gguf.file import open_model
from tailrace.models.fetch import resolve_model
from tailrace.models.train import fit
from tailrace.text.tokenizer import Tokenizer
from verification.unit.host.transformers_models import make_config

#: Positions of the text's end that no model is trained on.
KEPT = 1024
_LENGTH, _BATCH, _RATE = 128, 8, 3e-3
_COMMON = {"hidden": 128, "heads": 4, "kv_heads": 2, "head_size": 32, "layers": 4, "vocabulary": 1024, "context": 1024}
#: Sizes of each model: of three layers with the gated delta rule and one with attention, and of experts with sinks and windows.
MODELS: dict[str, dict[str, Any]] = {
    "qwen35": {**_COMMON, "feed_forward": 256, "linear": (2, 4, 32, 32), "every": 4, "tied": True},
    "gpt-oss": {**_COMMON, "feed_forward": 128, "experts": 8, "used": 2, "window": 64},
}


def text() -> NDArray[np.int64]:
    """The text, in tokens of the small model that comes along."""
    tokenizer = Tokenizer(open_model(resolve_model("shakespeare")))
    return np.array(tokenizer.encode(PROSE.read_text(encoding="utf-8")), dtype=np.int64)


@contextmanager
def one_thread() -> Iterator[None]:
    """Makes what is trained the same on a machine with more processors: how many share a sum changes its bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def train(architecture: str, tokens: NDArray[np.int64], steps: int, seed: int, told: Callable[[str, float], None]) -> Any:
    """Train a model on all but the end of a text.

    Parameters
    ----------
    architecture : str
        One of `MODELS`.
    tokens : ndarray of int64, shape (positions,)
    steps, seed : int
    told : callable
        Told now and then how far it is.

    Returns
    -------
    PreTrainedModel
        In float32, with weights that are numbers of bfloat16, as they are published.
    """
    torch.manual_seed(seed)
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_config(make_config(architecture, **MODELS[architecture])).float().train()
    body = torch.from_numpy(tokens[:-KEPT])
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)

    def tell(step: int, loss: float) -> None:
        if step % 10 == 0:
            told(f"training {architecture}: loss {loss:.2f}", step / steps)

    fit(model, body, optimiser, rates, steps, length=_LENGTH, batch=_BATCH, told=tell)
    return model.to(torch.bfloat16).float().eval().requires_grad_(False)
