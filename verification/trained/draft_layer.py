"""Trains the layer that drafts for a small hybrid, whose own weights stay as they are, and writes both as a checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from verification.unit.host.transformers_models import make_config

from .train import KEPT, MODELS, one_thread

_LENGTH, _BATCH, _RATE = 128, 8, 3e-3


class DraftLayer(torch.nn.Module):
    """What follows the last layer of a hybrid: norms, the matrix that merges, a layer with attention, and a norm.

    Parameters
    ----------
    architecture : str
    """

    def __init__(self, architecture: str) -> None:
        super().__init__()
        sizes = {**MODELS[architecture], "layers": 1, "every": 1}
        self.body = transformers.AutoModelForCausalLM.from_config(make_config(architecture, **sizes)).model.float()
        # Nothing is embedded here.
        del self.body.embed_tokens
        hidden, norm = sizes["hidden"], type(self.body.norm)
        self.fc = torch.nn.Linear(2 * hidden, hidden, bias=False)
        self.pre_fc_norm_embedding, self.pre_fc_norm_hidden = (norm(hidden, self.body.config.rms_norm_eps) for _ in range(2))

    def forward(self, embeddings: Any, hidden: Any) -> Any:
        """What the layer leaves, behind its norm, of tokens' embeddings and of what the last layer has left of those before."""
        merged = torch.cat([self.pre_fc_norm_embedding(embeddings), self.pre_fc_norm_hidden(hidden)], dim=-1)
        return self.body(inputs_embeds=self.fc(merged)).last_hidden_state

    def tensors(self) -> dict[str, Any]:
        """By the names that published checkpoints have."""
        names = {"body.norm": "norm", "body.layers": "layers"}
        found = {}
        for name, tensor in self.state_dict().items():
            start = next((one for one in names if name.startswith(f"{one}.")), None)
            place = name if start is None else names[start] + name.removeprefix(start)
            found[f"mtp.{place}"] = tensor.contiguous()
        return found


@one_thread()
def train_layer(
    model: Any, architecture: str, tokens: NDArray[np.int64], steps: int, seed: int, told: Callable[[str, float], None]
) -> DraftLayer:
    """Train a layer to say what comes after the next token, on all but the end of a text; weights are numbers of bfloat16."""
    torch.manual_seed(seed)
    layer, body = DraftLayer(architecture).train(), torch.from_numpy(tokens[:-KEPT])
    optimiser = torch.optim.AdamW(layer.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    for step in range(1, steps + 1):
        begins = torch.randint(len(body) - _LENGTH - 2, (_BATCH,))
        sample = torch.stack([body[b : b + _LENGTH + 2] for b in begins])
        with torch.no_grad():
            hidden = model.model(sample[:, :_LENGTH]).last_hidden_state
            embeddings = model.get_input_embeddings()(sample[:, 1 : _LENGTH + 1])
        logits = model.lm_head(layer(embeddings, hidden))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), sample[:, 2:].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimiser.step()
        rates.step()
        if step % 10 == 0:
            told(f"training the layer that drafts: loss {loss.item():.2f}", step / steps)
    return layer.to(torch.bfloat16).float().eval().requires_grad_(False)


def save(model: Any, layer: DraftLayer, folder: Path) -> None:
    """Write a checkpoint as published ones are."""
    model.save_pretrained(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    save_file(load_file(weights) | layer.tensors(), weights, {"format": "pt"})
    config.write_text(json.dumps(json.loads(config.read_text()) | {"mtp_num_hidden_layers": 1}))
