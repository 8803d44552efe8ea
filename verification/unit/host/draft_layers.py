"""Small random models with a layer that drafts, and what transformers makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailrace.gguf.file import Tensor, open_model
from tailrace.gguf.writer import NewTensor, tensor_of, write_gguf
from tailrace.huggingface.internals import with_cache

from .references import changed_cache, instead
from .transformers_models import gguf_name, header_values, make_model

Floats = NDArray[np.float32]
#: Keys and values of a KV cache, all positions.
Cache = tuple[Floats, Floats]


@dataclass(frozen=True)
class DraftingModel:
    """A model of transformers, and one of a single layer that drafts for it, whose final norm is that layer's own.

    Attributes
    ----------
    main, layer : PreTrainedModel
    norms : dict of str to Tensor
        Weights of the norms of what is merged: ``enorm``, ``hnorm``.
    merge : Tensor
        Rows first; of a row embeddings come first.
    """

    main: Any
    layer: Any
    norms: dict[str, Any]
    merge: Any

    def hidden(self, tokens: Sequence[int], held: Sequence[Cache] | None = None) -> Any:
        """What the last layer leaves of each token, behind the final norm; `held`: keys and values in place of its own."""
        return _behind(self.main, held, input_ids=torch.tensor([list(tokens)]))

    def drafts(self, tokens: Sequence[int], hidden: Any, held: Sequence[Cache] | None = None) -> tuple[Floats, Any]:
        """Logits behind each token but the first, and what the layer leaves of it; `hidden`: of the token before each."""
        embeddings = self.main.get_input_embeddings()(torch.tensor(list(tokens[1:])))
        merged = torch.cat([self._norm("enorm", embeddings), self._norm("hnorm", hidden)], dim=-1) @ self.merge.T
        left = _behind(self.layer, held, inputs_embeds=merged[None])
        return self.main.lm_head(left).numpy(), left

    def _norm(self, name: str, x: Any) -> Any:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.main.config.rms_norm_eps) * self.norms[name]


def _behind(model: Any, held: Sequence[Cache] | None, **inputs: Any) -> Any:
    """What the layers of a model leave, behind its final norm."""
    with torch.no_grad():
        return model.model(**inputs, **with_cache(changed_cache(model, instead(held)))).last_hidden_state[0]


def make_drafting(
    path: Path, architecture: str, *, seed: int = 1, layers: int = 2, tied: bool = False, **sizes: Any
) -> DraftingModel:
    """Make a random model, and write it to a file with a layer that drafts."""
    main = make_model(path, architecture, seed=seed, layers=layers, tied=tied, **sizes)
    file = open_model(path)
    tensors = [_again(tensor, name) for name, tensor in file.tensors.items()]
    other = path.with_suffix(".layer.gguf")
    layer = make_model(other, architecture, seed=seed + 1, layers=1, tied=tied, **{**sizes, "every": 1})
    names = {"output_norm.weight": f"blk.{layers}.nextn.shared_head_norm.weight"}
    tensors += [
        _again(tensor, names.get(name, name.replace("blk.0.", f"blk.{layers}.")))
        for name, tensor in open_model(other).tensors.items()
        if name in names or name.startswith("blk.")
    ]
    random, hidden = np.random.default_rng(seed + 2), main.config.hidden_size
    norms = {
        name: tensor_of(f"blk.{layers}.nextn.{name}.weight", random.uniform(0.5, 1.5, hidden)) for name in ("enorm", "hnorm")
    }
    merge = tensor_of(f"blk.{layers}.nextn.eh_proj.weight", random.standard_normal((hidden, 2 * hidden)) * hidden**-0.5, "Q8_0")
    name = gguf_name(architecture)
    values = header_values(architecture, main.config)
    values |= {f"{name}.block_count": layers + 1, f"{name}.nextn_predict_layers": 1}
    write_gguf(path, name, values, [*tensors, *norms.values(), merge])
    held = open_model(path).tensors[merge.name].dequantised()
    return DraftingModel(
        main, layer, {n: torch.from_numpy(t.data) for n, t in norms.items()}, torch.from_numpy(held)
    )  # fmt: skip


def _again(tensor: Tensor, name: str) -> NewTensor:
    return NewTensor(name, tensor.shape, tensor.type_name, np.array(tensor.data))
